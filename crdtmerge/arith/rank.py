"""Order statistics: the element that has a given place when all are sorted, exactly.

No arithmetic, so nothing rounds: an answer is one of the elements (only the `median` of an even number is
the mean of two). Elements ascend by value; -0.0 and 0.0 are the same value, returned as 0.0. Which of
several equal elements it was does not show.

The *q-quantile* of n elements has the place ⌊q · (n - 1)⌋, counted from 0: the largest element that at most
a share q of the way lies below, what others call method "lower". q is a rational, so the place is exact.

Streams that do not fit into memory are ranked by `RankSelection`: negative elements ascend with falling
magnitude and the others with rising magnitude, so once it is known on which side the place lies, the rest
is `TopSelection`'s search for a k-th magnitude.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from crdtmerge.arith import order
from crdtmerge.arith.order import TopSelection
from crdtmerge.arith.scalar import nearest
from crdtmerge.errors import ParameterError


class RankSelection:
    """Finds the element with place ``rank``, from 0, of ``total`` in ascending order, in bounded memory.

    Feed all tiles, call `finish`, and start over while it answers False. Tiles may come in any order as long
    as every pass shows the same elements.
    """

    def __init__(self, rank: int, total: int) -> None:
        if not 0 <= rank < total:
            raise ParameterError(f"a place among {total} elements is in [0, {total}), got {rank}")
        self._rank, self._total = rank, total
        self._kept: list[Tensor] | None = [] if total <= order.CANDIDATES_MAX else None
        self._seen = self._negative = 0
        self._below, self._above = -math.inf, math.inf  # what is next to zero on either side
        self._search: TopSelection | None = None
        self._wants_negative = False
        self._value: float | None = None

    @property
    def value(self) -> float:
        """The element; never -0.0.

        Raises:
            ParameterError: before `finish` has answered True.
        """
        if self._value is None:
            raise ParameterError("the selection needs another pass over the stream")
        return self._value

    def feed(self, values: Tensor) -> None:
        """Take [n] float64 into account."""
        if self._value is not None:
            return
        if self._search is not None:
            array = values.cpu().numpy()
            side = array[array < 0.0 if self._wants_negative else array >= 0.0]
            self._search.feed(torch.from_numpy(side), self._seen)
            self._seen += len(side)
            return
        self._seen += len(values)
        if self._kept is not None:
            self._kept.append(values.clone())
            return
        array = values.cpu().numpy()
        negative, others = array[array < 0.0], array[array >= 0.0]
        self._negative += len(negative)
        self._below = max(self._below, float(negative.max(initial=-math.inf)))
        self._above = min(self._above, float(others.min(initial=math.inf)) + 0.0)

    def finish(self) -> bool:
        """End a pass; True when the element is known.

        Raises:
            ParameterError: if the elements were not as many as announced, or not those of the last pass.
        """
        if self._value is not None:
            return True
        if self._search is not None:
            if self._search.finish():
                size = self._search.cut.threshold
                self._value = -size if self._wants_negative else size
        elif self._seen != self._total:
            raise ParameterError(f"a pass should show {self._total} elements, got {self._seen}")
        elif self._kept is not None:
            self._value = _select(torch.cat(self._kept), self._rank).item()
            self._kept = None
        else:
            self._begin_search()
        self._seen = 0
        return self._value is not None

    def _begin_search(self) -> None:
        self._wants_negative = self._rank < self._negative
        if self._wants_negative:
            side, k = self._negative, self._rank + 1
        else:
            side, k = self._total - self._negative, self._total - self._rank
        if k == side:  # the magnitude closest to zero on its side
            self._value = self._below if self._wants_negative else self._above
        else:
            self._search = TopSelection(k, side)


def quantile_rank(q: Fraction, total: int) -> int:
    """Return the place ⌊q · (total - 1)⌋ of the q-quantile.

    Raises:
        ParameterError: if ``q`` is not in [0, 1] or there are no elements.
    """
    if not 0 <= q <= 1 or total < 1:
        raise ParameterError(f"the {q}-quantile of {total} elements")
    return int(q * (total - 1))


def kth_magnitude(x: Tensor, k: int) -> float:
    """Return the k-th largest |x| of [n] float64, 1 <= k <= n.

    Raises:
        ParameterError: if ``k`` is out of range.
    """
    return _select(x.abs(), len(x) - k).item()


def quantile(x: Tensor, q: Fraction) -> float:
    """Return the q-quantile of [n] float64, n >= 1; never -0.0.

    Raises:
        ParameterError: if ``q`` is not in [0, 1] or there are no elements.
    """
    return _select(x, quantile_rank(q, len(x))).item()


def median(x: Tensor) -> float:
    """Return the middle one of [n] float64, or the float64 nearest to the mean of the middle two.

    Raises:
        ParameterError: if there are no elements.
    """
    low, high = _middle(len(x))
    return midpoint(_select(x, low).item(), _select(x, high).item())


def quantile_rows(x: Tensor, q: Fraction) -> Tensor:
    """Return the q-quantile along the last dimension, [..., n] float64 to [...]; never -0.0.

    Raises:
        ParameterError: if ``q`` is not in [0, 1] or there are no elements.
    """
    return _select(x, quantile_rank(q, x.shape[-1]))


def median_rows(x: Tensor) -> Tensor:
    """Return the median along the last dimension, [..., n] float64 to [...]; never -0.0.

    Determinism: of an even number, half the lower middle plus half the upper middle, three roundings.

    Raises:
        ParameterError: if there are no elements.
    """
    low, high = _middle(x.shape[-1])
    lower = _select(x, low)
    return lower if low == high else (lower * 0.5 + _select(x, high) * 0.5).add_(0.0)


def rank_rows(x: Tensor) -> Tensor:
    """Return each element's place, from 0, in ascending order along the last dimension, [..., n] to [..., n].

    Determinism: of equal values the earlier one comes first.
    """
    order = x.sort(dim=-1, stable=True).indices
    counted = torch.arange(x.shape[-1], dtype=torch.float64, device=x.device)
    return torch.empty_like(x).scatter_(-1, order, counted.expand_as(order))


def midpoint(a: float, b: float) -> float:
    """Return the float64 nearest to (a + b) / 2; never -0.0."""
    return nearest((Fraction(a) + Fraction(b)) / 2) + 0.0


def _middle(total: int) -> tuple[int, int]:
    if total < 1:
        raise ParameterError("nothing has no median")
    return (total - 1) // 2, total // 2


def _select(x: Tensor, rank: int) -> Tensor:
    if not 0 <= rank < x.shape[-1]:
        raise ParameterError(f"place {rank} of {x.shape[-1]} elements")
    array = np.partition(x.cpu().numpy(), rank, axis=-1)[..., rank]
    return torch.from_numpy(np.asarray(array + 0.0)).to(x.device)
