"""Publishing what a search found, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from crdtmerge.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in a folder with base.safetensors, a.safetensors and b.safetensors."""
    monkeypatch.chdir(tmp_path)
    for name, values in {"base": (1, 2, 3, 4), "a": (1.5, 2, 2, 4.25), "b": (2, 1, 3.5, 3.5)}.items():
        save_file({"w": torch.tensor(values, dtype=torch.float64)}, tmp_path / f"{name}.safetensors")

    def command(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return command


def data(result: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = result
    assert code == 0, err
    parsed: dict[str, Any] = json.loads(out)
    return parsed


@pytest.fixture
def two(run: Run) -> tuple[Run, list[str]]:
    """A federation of two contributions that asks for published coefficients."""
    assert run("init", "--base", "base.safetensors", "--recipe", "ada_merging")[0] == 0
    return run, [data(run("contribute", f"{n}.safetensors", "--json"))["contribution"] for n in "ab"]


def found(path: Path, metadata: dict[str, str], *weights: float) -> str:
    save_file({"weights": torch.tensor(weights, dtype=torch.float64)}, path, metadata)
    return str(path)


def test_a_file_of_coefficients_is_published_and_applied(tmp_path: Path, two: tuple[Run, list[str]]) -> None:
    run, digests = two
    metadata = {"strategy": "ada_merging", "contributions": json.dumps(digests)}
    path = found(tmp_path / "found.safetensors", metadata, 0.5, 0.25)
    assert "initial point is used" in data(run("merge", "--json"))["notes"][0]
    said = data(run("coefficients", path, "--json"))
    assert said["contributions"] == sorted(digests)
    merged = data(run("merge", "--json"))
    assert merged["coefficients"] == [said["payload"]]
    assert merged["notes"] == []
    assert load_file(merged["file"])["w"].tolist() == [1.5, 1.75, 2.625, 4.0]
    (row,) = data(run("coefficients", "--list", "--json"))["coefficients"]
    assert (row["payload"], row["standing"]) == (said["payload"], "bound to what is visible")
    assert "coefficients for what is visible: 1 of 1 ready" in run("status")[1]
    assert f"applies coefficients {said['payload'][:12]}" in run("merge", "--plan")[1]


def test_strategy_and_settings_can_be_given_beside_the_file(
    tmp_path: Path, two: tuple[Run, list[str]]
) -> None:
    run, _ = two
    path = found(tmp_path / "found.safetensors", {}, 1, 0)
    assert "give --strategy" in run("coefficients", path)[2]
    said = data(run("coefficients", path, "--strategy", "dam", "-s", "mode=convex", "--json"))
    assert said["strategy"] == "dam"
    assert run("recipe", "dam")[0] == 0
    values = load_file(data(run("merge", "--json"))["file"])["w"].tolist()
    assert values in ([1.5, 2, 2, 4.25], [2, 1, 3.5, 3.5])


def test_what_cannot_be_published_is_an_error_of_the_caller(
    tmp_path: Path, two: tuple[Run, list[str]]
) -> None:
    run, digests = two
    path = found(tmp_path / "found.safetensors", {"contributions": "everything"}, 1, 1)
    assert run("coefficients", path, "--strategy", "dam")[0] == 2
    path = found(tmp_path / "short.safetensors", {"contributions": json.dumps(digests[:1])}, 1, 1)
    code, _, err = run("coefficients", path, "--strategy", "ada_merging")
    assert (code, "for 1 contributions" in err) == (2, True)
    assert run("coefficients")[0] == 2
