"""Order among k streams, element by element: what medians and trimmed means over contributions are made of.

    x₁  3 0 5        ascending   1 0 2        ranks of x₁  2 0 2
    x₂  1 0 2    →               2 0 4                 x₂  0 1 0
    x₃  2 9 4                    3 9 5                 x₃  1 2 1

Values of a sort are the same everywhere; which of two equal ones came first is settled by the order of the
streams. Both zeros are +0 here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crdtmerge.errors import ParameterError


def ascending(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return k times [n] float64: the smallest of each element's k values, the second, and so on.

    Raises:
        ParameterError: if there are no tensors.
    """
    return list(_stacked(tensors).sort(dim=0).values)


def ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return k times [n] float64: at each element the place of that tensor's value among the k, from 0 on.

    Determinism: of equal values the earlier tensor's comes first.

    Raises:
        ParameterError: if there are no tensors.
    """
    stacked = _stacked(tensors)
    order = stacked.sort(dim=0, stable=True).indices
    places = torch.empty_like(stacked)
    counted = torch.arange(len(tensors), dtype=torch.float64, device=stacked.device)
    return list(places.scatter_(0, order, counted.reshape(-1, 1).expand_as(order)))


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors:
        raise ParameterError("an order among no tensors")
    return torch.stack(list(tensors)).add_(0.0)
