"""Streams of elements that are read one by one: as they are, less a base, with some of them dropped.

Each is described here, and computed by torch as its definition says; or a compiled loop takes the description
(`traced`) and works on elements while it reads them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.draw import Words, keep_mask, mask_threshold, mask_words
from crdtmerge.arith.pending import Elements, Pending, decoded
from crdtmerge.arith.scalar import nearest
from crdtmerge.arith.stored import Values, located


class Stream(NamedTuple):
    """The fields of `compiled.STREAM`."""

    address: int
    kind: int
    base: int = 0
    base_kind: int = 0
    words: int = 0
    threshold: int = 0
    divisor: float = 1.0
    ties: int = 0
    low: float = -1.0
    high: float = -1.0


class _Streamed(Pending):
    """A stream that a loop can write."""

    __slots__ = ()

    def _compute(self) -> Tensor:
        loops, found = compiled.kernels(), None
        if loops is not None:
            found = traced([self])
        if loops is None or found is None:
            return self._by_torch()
        out = torch.empty(self.shape, dtype=torch.float64)
        loops.write(out.view(-1).numpy(), found.streams)
        return out

    @abstractmethod
    def _by_torch(self) -> Tensor:
        """Return the elements as their definition says."""

    @abstractmethod
    def trace(self) -> tuple[Stream, list[object]] | None:
        """Return how a loop reads it, and what must be kept meanwhile; None if none does."""


class Change(_Streamed):
    """[n] differences of elements from a base.

    Determinism: one subtraction for each element.

    Args:
        x: [n] elements.
        base: [n] elements.
    """

    __slots__ = ("base", "x")

    def __init__(self, x: Values, base: Values) -> None:
        super().__init__(x.shape)
        self.x, self.base = x, base

    def _by_torch(self) -> Tensor:
        return decoded(self.x) - decoded(self.base)

    def trace(self) -> tuple[Stream, list[object]] | None:
        """Return the stream of ``x`` with a base."""
        place, base = located(self.x), located(self.base)
        if place is None or base is None or self.x.shape != self.base.shape:
            return None
        return Stream(place[0], place[1], base[0], base[1]), [place, base]


class Drawn(Pending):
    """A mask: [n] of 1.0 where `keep_mask` keeps an element, and 0.0 elsewhere.

    Args:
        key: of the draw.
        start: flat index of the first element.
        count: n.
        probability: with which elements stay.
    """

    __slots__ = ("_arguments",)

    def __init__(self, key: bytes, start: int, count: int, probability: Fraction) -> None:
        super().__init__(torch.Size((count,)))
        self._arguments = (key, start, count, probability)

    def _compute(self) -> Tensor:
        return keep_mask(*self._arguments)

    def words(self) -> tuple[Words, int] | None:
        """Return words and a number: elements with words below it stay; None if all do."""
        key, start, count, probability = self._arguments
        return None if probability == 1 else (mask_words(key, start, count), mask_threshold(probability))


class Dropped(_Streamed):
    """[n] elements times a mask of 1.0 and 0.0, plus 0.0, divided by a number.

    Determinism: one product, one sum; one division by the float nearest to ``divisor`` (none for 1).

    Args:
        values: [n] elements.
        mask: [n].
        divisor: not 0.
    """

    __slots__ = ("_divisor", "_mask", "_values")

    def __init__(self, values: Elements, mask: Elements, divisor: Fraction = Fraction(1)) -> None:
        super().__init__(values.shape)
        self._values, self._mask, self._divisor = values, mask, nearest(divisor)

    def _by_torch(self) -> Tensor:
        kept = (decoded(self._values) * decoded(self._mask)).add_(0.0)
        return kept if self._divisor == 1 else kept.div_(self._divisor)

    def trace(self) -> tuple[Stream, list[object]] | None:
        """Return the stream of the elements with words to compare."""
        drawn = self._mask.words() if isinstance(self._mask, Drawn) and self._mask.fresh else None
        found = None if drawn is None or self._mask.shape != self.shape else _trace(self._values)
        if found is None or drawn is None or found[0].words or found[0].high >= 0:
            return None
        words, threshold = drawn
        address: int = words.__array_interface__["data"][0]
        stream = found[0]._replace(words=address, threshold=threshold, divisor=self._divisor)
        return stream, [*found[1], words]


class Trimmed(_Streamed):
    """[n] elements where |x| exceeds a bound, and 0.0 elsewhere.

    Args:
        values: [n] elements.
        ties: in how many elements the bound is ``low``.
        low, high: the bounds, not negative.
    """

    __slots__ = ("_high", "_low", "_ties", "_values")

    def __init__(self, values: Elements, ties: int, low: float, high: float) -> None:
        super().__init__(values.shape)
        self._values, self._ties, self._low, self._high = values, ties, low, high

    def _by_torch(self) -> Tensor:
        numbers, ties = decoded(self._values), self._ties
        kept = torch.empty_like(numbers)
        torch.hardshrink(numbers[:ties], self._low, out=kept[:ties])
        torch.hardshrink(numbers[ties:], self._high, out=kept[ties:])
        return kept

    def trace(self) -> tuple[Stream, list[object]] | None:
        """Return the stream of the elements with bounds."""
        found = _trace(self._values)
        if found is None or found[0].high >= 0:
            return None
        return found[0]._replace(ties=self._ties, low=self._low, high=self._high), found[1]


class Traced(NamedTuple):
    """What loops read.

    Attributes:
        streams: [k] of `compiled.STREAM`.
        kept: what must stay where it is meanwhile.
    """

    streams: np.ndarray[Any, Any]
    kept: list[object]


def traced(terms: Sequence[Elements]) -> Traced | None:
    """Return how loops read k streams of the same shape; None if they cannot, or there is nothing to read."""
    shape = terms[0].shape
    if not shape.numel() or any(term.shape != shape for term in terms):
        return None
    streams: list[Stream] = []
    kept: list[object] = []
    for term in terms:
        found = _trace(term)
        if found is None:
            return None
        streams.append(found[0])
        kept += found[1]
    return Traced(np.array(streams, compiled.STREAM), kept)


def _trace(x: Elements) -> tuple[Stream, list[object]] | None:
    if isinstance(x, _Streamed) and x.fresh:
        return x.trace()
    place = located(x)
    return None if place is None else (Stream(place[0], place[1]), [place])
