"""Saliency: what the loss would change by, to first order, without a weight; and the elements elected by it.

    s = Σ over batches |θ ⊙ ∂L/∂θ|          (SNIP: Lee, Ajanthan, Torr 2019, arXiv:1810.02340)

LED merging elects the elements that rank high both for the fine-tune and for the base, on the author's own
data. A mask of them is all that others need: one bit for each element.

*Cost*: one forward and one backward pass per batch, for each of the two models. Scores are as large as the
model in float32, masks a thirty-second of that.

*Privacy*: scores as `fisher`; a mask tells where the task sits in the model, and little about its data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import TypeVar

import torch
from torch import Tensor, nn

from crdtmerge.arith import Cut, TopSelection
from crdtmerge.errors import ParameterError

Batch = TypeVar("Batch")

FINE, BASE = "saliency.abs", "saliency.abs.base"


def saliency(
    model: nn.Module, batches: Iterable[Batch], loss: Callable[[Batch], Tensor], *, of_base: bool = False
) -> dict[str, Tensor]:
    """Return ``saliency.abs/<parameter>`` of every parameter that requires a gradient, float32.

    Args:
        model: the fine-tune, or the base with ``of_base``; its gradients are left alone.
        batches: of the author's data, the same for both models.
        loss: of the model on one batch, a scalar.
        of_base: name the scores ``saliency.abs.base``.

    Raises:
        ParameterError: if there are no batches.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in named.items()}
    count = 0
    for batch in batches:
        with torch.enable_grad():
            found = torch.autograd.grad(loss(batch), list(named.values()), allow_unused=True)
        for (name, parameter), gradient in zip(named.items(), found, strict=True):
            if gradient is not None:
                sums[name] += (parameter.detach().double() * gradient.double()).abs()
        count += 1
    if not count:
        raise ParameterError("saliency needs at least one batch")
    kind = BASE if of_base else FINE
    return {f"{kind}/{name}": total.float().cpu() for name, total in sums.items()}


def elected(
    fine: Mapping[str, Tensor], base: Mapping[str, Tensor], rate: str | Fraction
) -> dict[str, Tensor]:
    """Return ``mask/<parameter>``: per tensor, who is among the ⌊rate · d⌋ largest of both scores, in bits.

    Of equal scores the lower flat index goes first: this is what `led_merge` elects from the scores.

    Args:
        fine: what `saliency` gave for the fine-tune.
        base: what it gave for the base.
        rate: between 0 and 1, exact.

    Raises:
        ParameterError: if the scores are not of the same tensors.
    """
    share = Fraction(rate)
    names = [name.removeprefix(f"{FINE}/") for name in fine]
    if not 0 <= share <= 1 or {f"{BASE}/{name}" for name in names} != base.keys():
        raise ParameterError(
            "election takes a rate between 0 and 1, and scores of the same tensors of both models"
        )
    return {
        f"mask/{name}": packed_bits(_top(fine[f"{FINE}/{name}"], share) * _top(base[f"{BASE}/{name}"], share))
        for name in names
    }


def packed_bits(mask: Tensor) -> Tensor:
    """Return a mask of zeros and others as bits, the lowest of a byte first, ⌈d/8⌉ bytes."""
    bits = torch.zeros(-(-mask.numel() // 8) * 8, dtype=torch.int64)
    bits[: mask.numel()] = (mask.flatten() != 0).long()
    return (bits.reshape(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)


def _top(scores: Tensor, share: Fraction) -> Tensor:
    values = scores.double().flatten()
    selection = TopSelection(math.floor(share * len(values)), len(values))
    complete = False
    while not complete:
        selection.feed(values, 0)
        complete = selection.finish()
    cut: Cut = selection.cut
    return cut.mask(values, 0)
