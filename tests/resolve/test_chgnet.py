"""Weights that strangers trained: CHGNet's base, its r2SCAN fine-tune, and an older network."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdtmerge import Recipe, Replica
from crdtmerge.errors import ShapeMismatchError
from crdtmerge.resolve import MODEL, cosine_to_base

DATA = Path(__file__).parents[1] / "data" / "chgnet"
BASE, TUNED, OLDER = (DATA / f"chgnet-{name}.safetensors" for name in ("0.3.0", "r2scan", "0.2.0"))


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Replica:
    home = tmp_path_factory.mktemp("chgnet") / "home"
    made = Replica.create(home, base=BASE, recipe=Recipe("task_arithmetic", scale="0.5"), reference=True)
    made.contribute(TUNED, label="r2SCAN", reference=True)
    return made


def test_a_fine_tune_is_close_to_its_base(replica: Replica) -> None:
    (digest,) = replica.visible
    assert cosine_to_base(replica.store, replica.store.manifest(digest), replica.base) > 0.95


def test_eight_tensors_are_reported_as_shared_with_the_base(replica: Replica) -> None:
    made = replica.plan()
    assert len(made.layout) == 136
    assert len(made.shared) == 8


def test_blocks_that_a_fine_tune_shares_with_its_base_are_read_once(replica: Replica, tmp_path: Path) -> None:
    (digest,) = replica.visible
    tensors = replica.base.tensors + replica.store.manifest(digest).tensors
    blocks = [block for tensor in tensors for block in replica.store.block_list(tensor.root)]
    assert len(blocks) - len(set(blocks)) >= 8
    assert replica.resolve(tmp_path / "merged", threads=1).blocks_read == len(set(blocks))


def test_the_merged_network_lies_halfway(replica: Replica, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    merged = load_file(replica.resolve(tmp_path / "merged").folder / MODEL)
    base, tuned = load_file(BASE), load_file(TUNED)
    for name, tensor in merged.items():
        half = base[name].double() + 0.5 * (tuned[name].double() - base[name].double())
        assert tensor.equal(half.float()), name


def test_an_older_network_is_refused_and_the_first_offending_tensors_named(replica: Replica) -> None:
    visible = replica.visible
    with pytest.raises(ShapeMismatchError) as caught:
        replica.contribute(OLDER)
    message = str(caught.value)
    assert "angle_layers.0.twoBody_bond.bn1.bias is missing" in message
    assert "fine-tune of exactly this federation's base" in message
    assert len(caught.value.tensors) > 40
    assert replica.visible == visible
