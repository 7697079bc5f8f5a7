"""The k elements of largest magnitude in a stream that does not fit into memory.

Elements are ordered by descending magnitude and, where magnitudes are equal, by ascending flat index:
a total order, so "the k largest" is one set on every machine. Half precision makes that rule matter:
hundreds of thousands of elements can share the magnitude at which the cut falls.

Without its sign bit, the pattern of a float64 is an integer that grows with the magnitude. The k-th
largest is found digit by digit, most significant first, one pass over the stream for each:

    pass 1   how many patterns begin with each 16- or 18-bit digit? → the digit of the k-th largest
    pass 2   of those that begin with it, the next digit …        (or, once they are few: keep them all)
    at last  with all 63 bits known and more ties than places: which index has the last place?

Typical streams take two passes, none takes six. No more than 2^20 elements are ever held, so state stays
below 48 MiB whatever the stream is like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.pending import Elements, decoded
from crdtmerge.arith.streams import Trimmed, traced
from crdtmerge.errors import ParameterError

_Integers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
_Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]

CANDIDATES_MAX: Final = 1 << 20
"""Elements that may be held at once. Changes the number of passes, never the result."""

_PATTERN_BITS: Final = 63
_MAGNITUDE: Final = (1 << _PATTERN_BITS) - 1
_LARGEST: Final = (0x7FF << 52) - 1
"""The pattern of the largest float64."""
_DIGIT_BITS: Final = 16
_DIGIT_BITS_COMPILED: Final = 18
"""More of them leave fewer elements to be looked at again, and a loop counts as fast."""
_CHUNK: Final = 1 << 16
"""Elements worked on together, so that what is made from them stays in the cache."""


@dataclass(frozen=True)
class Cut:
    """Which elements are among the k largest.

    Attributes:
        threshold: magnitude of the last element that is.
        last: its flat index: of those with just this magnitude, the ones up to here are kept.
    """

    threshold: float
    last: int

    none: ClassVar[Cut]
    """Keeps no element."""
    all: ClassVar[Cut]
    """Keeps every element."""

    def mask(self, values: Tensor, start: int) -> Tensor:
        """Return [n] float64 of 1.0 where an element is kept and 0.0 elsewhere.

        Args:
            values: [n] float64, the elements from flat index ``start`` on.
            start: as when they were fed.
        """
        magnitudes = values.abs()
        mask = torch.empty_like(magnitudes)
        ties = self._ties(values, start)
        torch.ge(magnitudes[:ties], self.threshold, out=mask[:ties])
        torch.gt(magnitudes[ties:], self.threshold, out=mask[ties:])
        return mask

    def keep(self, values: Elements, start: int) -> Tensor:
        """Return [n] float64: ``values`` where an element is kept and 0.0 elsewhere."""
        return self.trimmed(values, start).decoded()

    def trimmed(self, values: Elements, start: int) -> Trimmed:
        """Return what `keep` returns, pending."""
        # What is in [-bound, bound], zeros of either sign included, becomes 0.0.
        low = max(math.nextafter(self.threshold, 0.0), 0.0)
        return Trimmed(values, self._ties(values, start), low, self.threshold)

    def _ties(self, values: Elements, start: int) -> int:
        """Return how many of ``values`` lie up to ``last``."""
        return min(max(self.last + 1 - start, 0), len(values))


def mirrored(values: Tensor) -> Tensor:
    """Return [n] float64 >= 0 whose magnitudes are in the opposite order: selects the k smallest.

    The pattern of the largest float64 less that of each |x|; equal magnitudes stay equal.
    """
    return (_LARGEST - values.abs().view(torch.int64)).view(torch.float64)


Cut.none = Cut(threshold=math.inf, last=-1)
Cut.all = Cut(threshold=0.0, last=(1 << 63) - 1)


class TopSelection:
    """Finds the cut of the ``k`` largest of ``total`` elements; see the head of this file.

    Feed all tiles in ascending order, call `finish`, and start over while it answers False.
    """

    def __init__(self, k: int, total: int) -> None:
        if k < 0 or total < 0:
            raise ParameterError(f"the {k} largest of {total} elements")
        self._cut = Cut.none if k == 0 else Cut.all if k >= total else None
        # Wanted is the _rank-th largest of the _candidates elements whose pattern >> _shift is _prefix.
        self._rank, self._candidates = k, total
        self._shift, self._prefix = _PATTERN_BITS, 0
        self._begin_pass()

    def _begin_pass(self) -> None:
        self._next = self._found = 0
        self._last = -1
        self._kept: list[tuple[_Integers, _Integers]] = []
        bits = _DIGIT_BITS if compiled.kernels() is None else _DIGIT_BITS_COMPILED
        self._digit_shift = max(self._shift - bits, 0)
        self._counts = np.zeros(1 << (self._shift - self._digit_shift), dtype=np.int64)

    @property
    def cut(self) -> Cut:
        """The cut.

        Raises:
            ParameterError: before `finish` has answered True.
        """
        if self._cut is None:
            raise ParameterError("the selection needs another pass over the stream")
        return self._cut

    def feed(self, values: Elements, start: int) -> None:
        """Take into account [n] elements, those from flat index ``start`` on.

        Raises:
            ParameterError: if ``start`` lies before the end of the last tile of this pass.
        """
        if start < self._next:
            raise ParameterError(f"tiles come in ascending order: wanted {self._next} or later, got {start}")
        self._next = start + len(values)
        if self._cut is not None:
            return
        loops = compiled.kernels()
        if loops is not None and (found := traced([values])) is not None:
            self._take_by_loops(loops, found.streams, len(values), start)
            return
        array = decoded(values).cpu().numpy()
        for offset in range(0, len(array), _CHUNK):
            self._take(array[offset : offset + _CHUNK], start + offset)

    def _take_by_loops(self, loops: ModuleType, streams: Any, size: int, start: int) -> None:
        if self._counting:
            loops.count_digits(streams, size, self._digit_shift, self._counts)
            self._found += size
            return
        magnitudes, places = np.empty(size), np.empty(size, np.int64)  # of which little will be touched
        low, high = (_magnitude(pattern) for pattern in self._among)
        count = loops.find(streams, size, low, high, magnitudes, places)
        self._keep(magnitudes[:count].copy().view(np.int64), places[:count] + start)

    @property
    def _counting(self) -> bool:
        """Whether this pass looks at every element."""
        return self._shift == _PATTERN_BITS and self._candidates > CANDIDATES_MAX

    def _take(self, values: _Numbers, start: int) -> None:
        if self._counting:
            self._counts += np.bincount(self._digits(values.view(np.int64)), minlength=len(self._counts))
            self._found += len(values)
            return
        low, high = self._among
        sizes = np.abs(values)
        among = sizes >= _magnitude(low)
        among &= sizes <= _magnitude(high)
        places = np.flatnonzero(among)
        self._keep(sizes[places].view(np.int64), places + start)

    @property
    def _among(self) -> tuple[int, int]:
        """The least and the largest pattern of what is still looked at."""
        return self._prefix << self._shift, min((self._prefix + 1 << self._shift) - 1, _LARGEST)

    def _keep(self, patterns: _Integers, places: _Integers) -> None:
        """Take into account what is still looked at, by patterns without sign and flat indices."""
        if self._candidates <= CANDIDATES_MAX:
            self._kept.append((patterns, places))
        elif self._shift:
            np.add.at(self._counts, self._digits(patterns), 1)  # few by now
        elif self._found < self._rank <= self._found + len(places):
            self._last = int(places[self._rank - self._found - 1])
        self._found += len(places)

    def _digits(self, patterns: _Integers) -> _Integers:
        """Return the digits that this pass counts, of patterns with or without sign."""
        digits = patterns >> self._digit_shift
        digits &= len(self._counts) - 1
        return digits

    def finish(self) -> bool:
        """End a pass; True when the cut is known.

        Raises:
            ParameterError: if the elements were not as many as announced, or not those of the last pass.
        """
        if self._cut is None:
            if self._found != self._candidates:
                raise ParameterError(f"this pass should show {self._candidates} elements, got {self._found}")
            if self._candidates <= CANDIDATES_MAX:
                self._cut = self._cut_of_kept()
            elif self._shift == 0:
                self._cut = Cut(_magnitude(self._prefix), self._last)
            else:
                self._descend()
        self._begin_pass()
        return self._cut is not None

    def _cut_of_kept(self) -> Cut:
        patterns, indices = (np.concatenate(column) for column in zip(*self._kept, strict=True))
        place = len(patterns) - self._rank
        threshold = np.partition(patterns, place)[place]
        larger = np.count_nonzero(patterns > threshold)
        ties = indices[patterns == threshold]
        return Cut(_magnitude(threshold), int(ties[self._rank - larger - 1]))

    def _descend(self) -> None:
        at_least = self._counts[::-1].cumsum()[::-1]  # how many have this digit or a larger one
        digit = int(np.flatnonzero(at_least >= self._rank)[-1])
        self._candidates = int(self._counts[digit])
        self._rank -= int(at_least[digit]) - self._candidates
        self._prefix = self._prefix * len(self._counts) + digit
        self._shift = self._digit_shift


def _magnitude(pattern: int | np.int64) -> float:
    return float(np.int64(pattern).view(np.float64))
