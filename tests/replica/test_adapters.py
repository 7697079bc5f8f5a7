"""Adapter folders as PEFT writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from crdtmerge import Recipe, Replica
from crdtmerge.errors import RejectedError, ShapeMismatchError
from crdtmerge.manifest import Kind

BASE = {
    "model.q.weight": torch.arange(48, dtype=torch.float32).reshape(8, 6) / 7,
    "model.norm.weight": torch.ones(6),
}
A = torch.arange(12, dtype=torch.float32).reshape(2, 6) - 5
B = torch.arange(16, dtype=torch.float32).reshape(8, 2) / 4


def adapter(folder: Path, **settings: object) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "bias": "none"} | settings
    (folder / "adapter_config.json").write_text(json.dumps(config))
    names = {"lora_A": A, "lora_B": B}
    save_file(
        {f"base_model.model.model.q.{name}.weight": tensor for name, tensor in names.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


@pytest.fixture
def replica() -> Replica:
    return Replica.create(base=BASE, recipe=Recipe("task_arithmetic", scale=1))


def test_an_adapter_stands_for_scaled_product_of_its_factors(replica: Replica, tmp_path: Path) -> None:
    digest = replica.contribute(adapter(tmp_path / "lora"), label="lora")
    assert replica.store.manifest(digest).kind is Kind.LORA
    merged = replica.merged()
    delta = sum(B[:, j : j + 1].double() * A[j : j + 1].double() for j in range(2)) * 1.5
    assert merged["model.q.weight"].equal((BASE["model.q.weight"].double() + delta).float())
    assert merged["model.norm.weight"].equal(BASE["model.norm.weight"])


def test_an_adapter_and_a_checkpoint_merge_together(replica: Replica, tmp_path: Path) -> None:
    replica.contribute(adapter(tmp_path / "lora"))
    replica.contribute({name: tensor + 1 for name, tensor in BASE.items()})
    assert replica.merged()["model.norm.weight"].equal(torch.full((6,), 2.0))


def test_tiles_that_cut_rows_of_a_product_do_not_show(replica: Replica, tmp_path: Path) -> None:
    from crdtmerge.arith import decoded
    from crdtmerge.resolve.inputs import read_contribution

    manifest = replica.store.manifest(replica.contribute(adapter(tmp_path / "lora")))
    reader = replica.store.reader()
    whole, is_delta = read_contribution(reader, manifest, "model.q.weight", 6, 0, 48)
    assert is_delta
    for start in range(48):
        for stop in range(start + 1, 49):
            part, _ = read_contribution(reader, manifest, "model.q.weight", 6, start, stop)
            assert decoded(part).equal(decoded(whole)[start:stop])


@pytest.mark.parametrize(
    "strategy", ["star", "svd_knot_tying", "adarank", "dual_projection", "tsv_merge", "iso_c", "iso_cts"]
)
def test_adapters_merge_by_their_factors_to_what_their_products_merge_to(
    strategy: str, tmp_path: Path
) -> None:
    recipe = Recipe(strategy)
    whole = Replica.create(base=BASE, recipe=recipe)
    by_factors = Replica.create(base=BASE, recipe=recipe)
    for i, alpha in enumerate((3, 5)):
        folder = adapter(tmp_path / f"{strategy}-{i}", lora_alpha=alpha)
        by_factors.contribute(folder)
        product = (B.double() @ A.double()) * alpha / 2
        tuned = {"model.q.weight": BASE["model.q.weight"].double() + product}
        whole.contribute({**BASE, **tuned}, any_float=True)
    merged, wanted = by_factors.merged(), whole.merged()
    assert not merged["model.q.weight"].equal(BASE["model.q.weight"])
    assert torch.allclose(merged["model.q.weight"], wanted["model.q.weight"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "only 'LORA' is supported"),
        ({"use_dora": True}, "use_dora is set"),
        ({"bias": "all"}, "trained biases"),
        ({"modules_to_save": ["head"]}, "modules_to_save is set"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is set"),
        ({"r": 0}, "r = 0"),
        ({"use_rslora": True}, "no exact number"),
    ],
)
def test_what_changes_the_meaning_of_the_factors_is_refused_by_name(
    replica: Replica, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(RejectedError, match=message):
        replica.contribute(adapter(tmp_path / "lora", **settings))


def test_a_factor_for_a_tensor_that_the_base_lacks_is_named(tmp_path: Path) -> None:
    other = Replica.create(base={"model.k.weight": torch.zeros(8, 6)})
    with pytest.raises(ShapeMismatchError, match=r"changes model\.q\.weight, which is not in the base"):
        other.contribute(adapter(tmp_path / "lora"))


def test_factors_of_the_wrong_shape_are_named(tmp_path: Path) -> None:
    other = Replica.create(base={"model.q.weight": torch.zeros(8, 7)})
    with pytest.raises(ShapeMismatchError, match=r"factors of shape \[8, 6\], wanted \[8, 7\]"):
        other.contribute(adapter(tmp_path / "lora"))
