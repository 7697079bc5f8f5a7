"""The command line as people and scripts use it: output, exit codes, messages."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from crdtmerge.cli.main import main
from crdtmerge.resolve import MODEL, RECORD

Run = Callable[..., tuple[int, str, str]]


def model(seed: int) -> dict[str, torch.Tensor]:
    draw, tune = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    state = {"w": torch.randn(40, 30, generator=draw), "b": torch.randn(30, generator=draw)}
    return {k: v + 0.1 * torch.randn(v.shape, generator=tune) for k, v in state.items()} if seed else state


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in a folder with base.safetensors and 1 … 3.safetensors; its code and outputs."""
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        save_file(model(seed), tmp_path / ("base.safetensors" if not seed else f"{seed}.safetensors"))

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
def founded(run: Run) -> Run:
    assert run("init", "--base", "base.safetensors", "--recipe", "ties", "-p", "density=0.5")[0] == 0
    return run


def test_a_federation_of_one_from_init_to_a_merged_model(founded: Run) -> None:
    contribution = data(founded("contribute", "1.safetensors", "--label", "mine", "--json"))["contribution"]
    status = data(founded("status", "--json"))
    assert [row["digest"] for row in status["contributions"]] == [contribution]
    assert status["role"] == "admin"
    merged = data(founded("merge", "--json"))
    assert load_file(merged["file"]).keys() == model(0).keys()
    assert data(founded("verify", "--json"))["ok"]
    data(founded("retract", contribution[:10], "--json"))
    assert data(founded("status", "--json"))["contributions"] == []


def test_people_see_the_same_facts_as_programs(founded: Run) -> None:
    digest = data(founded("contribute", "1.safetensors", "--label", "mine", "--json"))["contribution"]
    code, out, _ = founded("status")
    assert code == 0
    assert digest[:12] in out
    assert "mine" in out
    code, out, _ = founded("log")
    assert out.index("add") < out.index("genesis")


def test_a_plan_says_what_would_be_done_and_does_nothing(founded: Run, tmp_path: Path) -> None:
    founded("contribute", "1.safetensors")
    plan = data(founded("merge", "--plan", "--json"))
    assert plan["tensors"] == 2
    assert "model" not in plan
    assert not (tmp_path / ".crdtmerge" / "results").exists()


def test_another_recipe_can_be_tried_without_changing_the_federations(founded: Run) -> None:
    founded("contribute", "1.safetensors")
    tried = data(founded("merge", "--recipe", "task_arithmetic", "-p", "scale=1", "--json"))
    assert tried["strategy"] == "task_arithmetic"
    assert data(founded("recipe", "--json"))["recipe"]["strategy"] == "ties"


def test_a_recipe_in_yaml_sets_rules_and_is_shown_again(founded: Run, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "strategy: ties\nparameters: {density: 0.25}\n"
        "rules: [{glob: '*b', strategy: weight_average}]\nselection: {labels: [mine]}\n"
    )
    shown = data(founded("recipe", "r.yaml", "--json"))["recipe"]
    assert shown["parameters"] == {"density": "0.25"}
    assert shown["rules"][0]["strategy"] == "weight_average"
    assert shown["selection"]["labels"] == ["mine"]
    assert data(founded("recipe", "--json"))["recipe"] == shown


def test_a_proof_is_written_and_checked_against_the_root(founded: Run) -> None:
    digest = data(founded("contribute", "1.safetensors", "--json"))["contribution"]
    root = data(founded("prove", digest[:10], "--out", "in.proof", "--json"))["root"]
    assert data(founded("verify", "--proof", "in.proof", "--root", root, "--json"))["present"]
    founded("retract", digest)
    after = data(founded("prove", digest, "--out", "out.proof", "--json"))
    assert not after["present"]
    args = ("verify", "--proof", "out.proof", "--root", after["root"])
    assert data(founded(*args, "--absent", "--json"))["ok"]
    assert founded(*args)[0] == 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("status", "--home", "nowhere"), 2, "holds no replica"),
        (("contribute", "missing.safetensors"), 2, "does not exist"),
        (("retract", "abcdef"), 2, "no visible contribution starts with 'abcdef'"),
        (("merge",), 2, "nothing to merge"),
        (("merge", "--recipe", "nonsense"), 2, "unknown strategy nonsense"),
        (("merge", "--recipe", "ties", "-p", "density=2"), 2, "density must be at most 1"),
        (("merge", "--budget", "lots"), 2, "wanted a size such as 512M"),
        (("recipe", "missing.yaml"), 2, "cannot be read as a recipe"),
        (("init", "--base", "base.safetensors"), 2, "already belongs to federation"),
        (("join", "garbage"), 3, "ticket"),
    ],
)
def test_errors_name_what_is_wrong_and_have_their_codes(
    founded: Run, words: tuple[str, ...], code: int, message: str
) -> None:
    got, _, err = founded(*words)
    assert message in err
    assert got == code


def test_errors_are_json_for_programs(founded: Run, tmp_path: Path) -> None:
    save_file(model(1) | {"b": torch.zeros(31)}, tmp_path / "bad.safetensors")
    code, out, _ = founded("contribute", "bad.safetensors", "--json")
    assert code == 2
    error = json.loads(out)["error"]
    assert error["type"] == "ShapeMismatchError"
    assert error["tensors"] == ["b"]


def test_a_pickle_is_refused_with_the_way_out(founded: Run, tmp_path: Path) -> None:
    torch.save(model(1), tmp_path / "model.pt")
    code, _, err = founded("contribute", "model.pt")
    assert code == 3
    assert "safetensors" in err


def flip(path: Path, position: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.fixture
def merged(founded: Run) -> Run:
    founded("contribute", "1.safetensors")
    assert founded("merge")[0] == 0
    assert founded("verify")[0] == 0
    return founded


def test_verify_finds_one_flipped_byte_of_a_stored_block(merged: Run, tmp_path: Path) -> None:
    blocks = sorted(path for path in (tmp_path / ".crdtmerge" / "blocks").rglob("*") if path.is_file())
    flip(blocks[0])
    code, out, _ = merged("verify", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (5, "CorruptBlockError")
    assert blocks[0].name in json.loads(out)["error"]["message"] + json.loads(out)["error"]["wanted"]


@pytest.mark.parametrize(
    ("table", "column", "which"),
    [
        ("operations", "encoded", "1"),
        ("entries", "value", "kind = 'manifest'"),
        ("entries", "value", "kind = 'tensor'"),
    ],
)
def test_verify_finds_one_flipped_byte_of_what_the_database_holds(
    merged: Run, tmp_path: Path, table: str, column: str, which: str
) -> None:
    with closing(sqlite3.connect(tmp_path / ".crdtmerge" / "meta.db")) as database:
        select = f"SELECT rowid, {column} FROM {table} WHERE {which} ORDER BY rowid DESC"  # noqa: S608
        rowid, content = database.execute(select).fetchone()
        for position in range(0, len(content), max(len(content) // 11, 1)):
            bad = bytearray(content)
            bad[position] ^= 1
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (bytes(bad), rowid))  # noqa: S608
            database.commit()
            code, out, _ = merged("verify", "--json")
            assert code in (3, 5), (position, out)
            assert json.loads(out)["error"]["type"] in {
                "CorruptBlockError",
                "DigestMismatchError",
                "MalformedError",
                "SignatureError",
            }


@pytest.mark.parametrize("name", [MODEL, RECORD])
def test_verify_finds_one_flipped_byte_of_a_merged_model(merged: Run, tmp_path: Path, name: str) -> None:
    (folder,) = (tmp_path / ".crdtmerge" / "results").iterdir()
    flip(folder / name)
    assert merged("verify")[0] == 5
    assert merged("verify", str(folder))[0] == 5


def test_discarding_what_is_corrupt_leaves_it_to_be_fetched_again(merged: Run, tmp_path: Path) -> None:
    blocks = sorted(path for path in (tmp_path / ".crdtmerge" / "blocks").rglob("*") if path.is_file())
    flip(blocks[0])
    assert merged("verify", "--discard")[0] == 5
    assert not blocks[0].exists()
    assert merged("merge")[0] == 4
    assert "have not arrived" in merged("merge")[2]


def test_the_doctor_finds_this_machine_fit(founded: Run) -> None:
    report = data(founded("doctor", "--json"))
    assert report["healthy"]
    assert {"floating point", "known answers", "federation"} <= {check["name"] for check in report["checks"]}


def test_strategies_are_listed_with_parameters_and_sources(run: Run) -> None:
    listed = {s["name"]: s for s in data(run("strategies", "--json"))["strategies"]}
    wanted = {"weight_average", "linear", "task_arithmetic", "ties", "dare", "dare_ties", "slerp"}
    assert wanted <= listed.keys()
    assert all(s["source"] and s["summary"] for s in listed.values())
    assert {"name", "default", "doc"} <= listed["ties"]["parameters"][0].keys()


def test_one_strategy_is_shown_with_its_parameters_and_a_wrong_name_with_the_nearest(run: Run) -> None:
    code, out, _ = run("strategies", "ties")
    assert code == 0
    assert "merge_func" in out
    assert "arXiv:2306.01708" in out
    code, _, err = run("strategies", "tiess")
    assert code == 2
    assert "is it ties" in err


def test_the_help_begins_with_commands_that_can_be_copied_line_by_line(run: Run) -> None:
    first_lines = [line.strip() for line in run("--help")[1].splitlines()]
    assert "crdtmerge invite" in first_lines
    assert "crdtmerge merge" in first_lines


def test_every_command_has_help_that_fits_a_screen(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    names = "init invite join contribute retract recipe status log peers merge verify prove serve strategies"
    for name in [*names.split(), "doctor", "demo", "ban", "block"]:
        assert f"  {name} " in out
        assert run(name, "--help")[0] == 0


def test_a_model_with_more_tokens_is_refused_with_the_way_out_and_fits_then(
    founded: Run, tmp_path: Path
) -> None:
    longer = model(1)
    longer["w"] = torch.cat([longer["w"], torch.ones(2, 30)])
    save_file(longer, tmp_path / "longer.safetensors")
    code, _, err = founded("contribute", "longer.safetensors")
    assert code
    assert "crdtmerge fit" in err
    said = data(founded("fit", "longer.safetensors", "fits.safetensors", "--json"))
    assert said == {"out": "fits.safetensors", "tensors": ["w"], "rows": 42, "wanted": 40}
    one, other = (
        data(founded("contribute", name, "--json"))["contribution"]
        for name in ("fits.safetensors", "1.safetensors")
    )
    assert one == other
