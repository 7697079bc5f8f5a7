"""Models with other tokens than the base are made to fit it; see vocabulary.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from crdtmerge.errors import MalformedError, ShapeMismatchError, UsageError
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.store import Store, fit_vocabulary, ingest_file, vocabulary

Model = dict[str, torch.Tensor]


def model(rows: int, *, seed: int, dtype: torch.dtype = torch.float32) -> Model:
    draw = torch.Generator().manual_seed(seed)
    return {
        "embed": torch.randn(rows, 3, generator=draw).to(dtype),
        "norm": torch.randn(3, generator=draw).to(dtype),
        "head": torch.randn(rows, 3, generator=draw).to(dtype),
        "head.bias": torch.randn(rows, generator=draw).to(dtype),
    }


BASE = model(10, seed=0)


@pytest.fixture
def store(tmp_home: Path) -> Iterator[Store]:
    with Store.open(tmp_home) as opened:
        yield opened


@pytest.fixture
def base(store: Store, tmp_path: Path) -> Manifest:
    save_file(BASE, tmp_path / "base.safetensors")
    return ingest_file(store, tmp_path / "base.safetensors", kind=Kind.BASE)


def fitted(store: Store, base: Manifest, tensors: Model, folder: Path) -> tuple[Model, list[str], int, int]:
    save_file(tensors, folder / "tuned.safetensors", metadata={"format": "pt"})
    out = folder / "fitted.safetensors"
    names, rows, wanted = fit_vocabulary(store, base, folder / "tuned.safetensors", out)
    return load_file(out), names, rows, wanted


@pytest.mark.parametrize("step", [1, 5, 1 << 22])
def test_tokens_that_the_base_lacks_are_left_out(
    store: Store, base: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(vocabulary, "_STEP", step)
    tuned = model(13, seed=1, dtype=torch.bfloat16)
    got, names, rows, wanted = fitted(store, base, tuned, tmp_path)
    assert (names, rows, wanted) == (["embed", "head", "head.bias"], 13, 10)
    assert got.keys() == tuned.keys()
    for name, tensor in tuned.items():
        assert torch.equal(got[name], tensor[: len(BASE[name])])


@pytest.mark.parametrize("step", [1, 5, 1 << 22])
def test_tokens_that_the_model_lacks_are_those_of_the_base(
    store: Store, base: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(vocabulary, "_STEP", step)
    tuned = model(7, seed=1)
    got, _, rows, wanted = fitted(store, base, tuned, tmp_path)
    assert (rows, wanted) == (7, 10)
    for name, tensor in tuned.items():
        assert torch.equal(got[name], torch.cat([tensor, BASE[name][len(tensor) :]]))


def test_what_was_fitted_is_taken_in_like_any_fine_tune(store: Store, base: Manifest, tmp_path: Path) -> None:
    fitted(store, base, model(13, seed=1), tmp_path)
    taken = ingest_file(store, tmp_path / "fitted.safetensors", kind=Kind.FULL, base=base.digest)
    assert [t.shape for t in taken.tensors] == [t.shape for t in base.tensors]


def test_rows_are_not_filled_in_from_another_dtype(store: Store, base: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ShapeMismatchError, match="another dtype") as refused:
        fitted(store, base, model(7, seed=1, dtype=torch.bfloat16), tmp_path)
    assert refused.value.tensors == ("embed", "head", "head.bias")
    assert not (tmp_path / "fitted.safetensors").exists()


def test_tensors_with_several_lengths_have_no_common_vocabulary(
    store: Store, base: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(ShapeMismatchError, match=r"embed has 13 and not 10, .*head has 11 and not 10"):
        fitted(store, base, model(13, seed=1) | {"head": torch.zeros(11, 3)}, tmp_path)


def test_a_tensor_that_two_shards_hold_is_not_chosen_from(
    store: Store, base: Manifest, tmp_path: Path
) -> None:
    for shard in ("one", "two"):
        save_file({"embed": torch.ones(13, 3)}, tmp_path / f"{shard}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {s: f"{s}.safetensors" for s in ("one", "two")}}))
    with pytest.raises(MalformedError, match="embed twice"):
        fit_vocabulary(store, base, index, tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    "other",
    [model(10, seed=1), {"embed": torch.zeros(13, 4)}, {"norm": torch.tensor(1.0)}, {"new": torch.ones(3)}],
)
def test_a_model_that_differs_in_nothing_or_in_something_else_is_left_alone(
    store: Store, base: Manifest, tmp_path: Path, other: Model
) -> None:
    with pytest.raises(UsageError, match="nothing to fit"):
        fitted(store, base, other, tmp_path)
