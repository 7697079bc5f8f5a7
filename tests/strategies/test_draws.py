"""Which elements are dropped: as many as asked for, and nobody's business but the contribution's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from strategies_harness import SEED, Contribution, merge

from crdtmerge.arith import Tensor
from crdtmerge.digest import Domain, digest

SIZE = 20_000


def kept(
    name: str = "A", *, others: Sequence[str] = (), seed: bytes = b"", p: str = "0.9"
) -> dict[str, Tensor]:
    """Which elements of two equal tensors of contribution ``name`` survive dropping."""
    ones, zeros = torch.ones(SIZE, dtype=torch.float64), torch.zeros(SIZE, dtype=torch.float64)
    contributions = [Contribution(name, {"u": ones, "v": ones})]
    contributions += [Contribution(other, {"u": zeros, "v": zeros}) for other in others]
    result = merge(
        "dare",
        contributions,
        {"u": zeros, "v": zeros},
        seed=digest(Domain.SET, seed) if seed else SEED,
        parameters={"p": p, "scale": 1},
    )
    return {tensor_name: x != 0 for tensor_name, x in result.items()}


def overlap(a: Tensor, b: Tensor) -> int:
    return int((a & b).count_nonzero())


@pytest.mark.parametrize("p", ["0.9", "0.5", "0.123"])
def test_the_share_of_kept_elements_is_within_five_sigma(p: str) -> None:
    keep = 1 - float(p)
    sigma = math.sqrt(SIZE * keep * (1 - keep))
    for mask in kept(p=p).values():
        assert abs(int(mask.count_nonzero()) - SIZE * keep) < 5 * sigma


def test_draws_for_tensors_contributions_and_seeds_are_independent() -> None:
    first = kept(p="0.5")
    others = [first["v"], kept("B", p="0.5")["u"], kept(seed=b"other", p="0.5")["u"], kept(p="0.51")["u"]]
    sigma = math.sqrt(SIZE * 3 / 16)
    for other in others:
        assert abs(overlap(first["u"], other) - SIZE / 4) < 5 * sigma + SIZE / 100


def test_a_mask_does_not_move_when_another_contribution_arrives() -> None:
    alone = kept("M")
    for others in (["A"], ["Z"], ["A", "B", "Z"]):
        together = kept("M", others=others)
        assert all(torch.equal(alone[name], together[name]) for name in alone)
