"""The k elements of largest magnitude in a stream that does not fit into memory.

Elements are ordered by descending magnitude and, where magnitudes are equal, by ascending flat index:
a total order, so "the k largest" is one set on every machine. Half precision makes that rule matter:
hundreds of thousands of elements can share the magnitude at which the cut falls.

Without its sign bit, the pattern of a float64 is an integer that grows with the magnitude. The search
narrows an interval of patterns in which the k-th largest lies, one pass over the stream for each step:

    sample    of one element in 67: how many patterns begin with each digit of 16 bits? → a guess
    narrow    how many lie beyond the interval? Of those within, the next digit of each …
    at last   once those within are few: keep them all. Or, with one pattern left and more ties than
              places: which index has the last place?

Whether a guess was right shows when the elements beyond it have been counted; if it was wrong, the search
goes on where they say. So a sample decides how many passes it takes, and nothing else.

Typical streams take two passes, and one of those looks at little. No more than 2^20 elements are ever held,
so state stays below 48 MiB whatever the stream is like.
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

SAMPLED_MIN: Final = 1 << 16
"""From more elements than these a sample is taken first. Changes the number of passes, never the result."""

_LARGEST: Final = (0x7FF << 52) - 1
"""The pattern of the largest float64."""
_DIGIT_BITS: Final = 16
_SAMPLE: Final = 67
"""One element in so many; no power of two, which is how far apart the elements of a column may be."""
_MARGIN: Final = 6
"""Standard deviations of a rank in a sample of independent elements. Neighbours are alike: hence so many."""
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
        self._rank, self._total = k, total
        # The wanted element has a pattern in [_low, _high], which _candidates have, and _beyond a larger one:
        # facts, unless _guessed.
        self._low, self._high = 0, _LARGEST
        self._candidates, self._beyond = total, 0
        self._sampling, self._guessed = total > SAMPLED_MIN, False
        self._begin_pass()

    def _begin_pass(self) -> None:
        self._next = self._seen = self._found = self._larger = 0
        self._last = -1
        self._kept: list[tuple[_Integers, _Integers]] = []
        self._shift = max((self._high - self._low).bit_length() - _DIGIT_BITS, 0)
        self._counts = np.zeros(1 << _DIGIT_BITS, dtype=np.int64)

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
        self._seen += len(values)
        if self._cut is not None:
            return
        loops = compiled.kernels()
        if loops is not None and (found := traced([values])) is not None:
            self._take_by_loops(loops, found.streams, len(values), start)
            return
        array = decoded(values).cpu().numpy()
        for offset in range(0, len(array), _CHUNK):
            self._take(np.abs(array[offset : offset + _CHUNK]), start + offset)

    def _take_by_loops(self, loops: ModuleType, streams: Any, size: int, start: int) -> None:
        if self._sampling:
            loops.sample(streams, size, self._shift, self._counts)
            return
        magnitudes, places = np.empty(size), np.empty(size, np.int64)  # of which little will be touched
        low, high = _magnitude(self._low), _magnitude(self._high)
        count, larger = loops.scan(streams, size, low, high, magnitudes, places)
        self._keep(magnitudes[:count].copy().view(np.int64), places[:count] + start, larger)

    def _take(self, magnitudes: _Numbers, start: int) -> None:
        if self._sampling:
            np.add.at(self._counts, magnitudes[::_SAMPLE].view(np.int64) >> self._shift, 1)
            return
        larger = magnitudes > _magnitude(self._high)
        places = np.flatnonzero((magnitudes >= _magnitude(self._low)) & ~larger)
        self._keep(magnitudes[places].view(np.int64), places + start, int(np.count_nonzero(larger)))

    def _keep(self, patterns: _Integers, places: _Integers, larger: int) -> None:
        """Take into account what is looked at, by patterns without sign and flat indices."""
        if self._candidates > CANDIDATES_MAX:
            if self._low < self._high:
                np.add.at(self._counts, (patterns - self._low) >> self._shift, 1)
            elif self._found < self._rank - self._beyond <= self._found + len(places):
                self._last = int(places[self._rank - self._beyond - self._found - 1])
        elif self._found + len(places) <= CANDIDATES_MAX:
            self._kept.append((patterns, places))
        else:  # more than was guessed
            self._kept.clear()
        self._found += len(places)
        self._larger += larger

    def finish(self) -> bool:
        """End a pass; True when the cut is known.

        Raises:
            ParameterError: if the elements were not as many as announced, or not those of the last pass.
        """
        if self._cut is None:
            if self._seen != self._total:
                raise ParameterError(f"a pass should show {self._total} elements, got {self._seen}")
            if self._sampling:
                self._guess()
            else:
                self._narrow()
        self._begin_pass()
        return self._cut is not None

    def _guess(self) -> None:
        """Take the digits around the wanted rank of the sample for those of the wanted element."""
        at_least = self._counts[::-1].cumsum()[::-1]  # how many have this digit or a larger one
        sampled = int(at_least[0])
        rank = self._rank * sampled // self._total
        margin = _MARGIN * math.isqrt(rank * (sampled - rank) // sampled + 1)
        low = max(int(np.count_nonzero(at_least >= rank + margin)) - 1, 0)
        high = int(np.count_nonzero(at_least >= rank - margin)) - 1
        self._low, self._high = low << self._shift, min((high + 1 << self._shift) - 1, _LARGEST)
        self._candidates = int(self._counts[low : high + 1].sum()) * self._total // sampled
        self._sampling, self._guessed = False, True

    def _narrow(self) -> None:
        """Draw conclusions from what a pass found between the bounds and beyond."""
        if not self._guessed and (self._found, self._larger) != (self._candidates, self._beyond):
            raise ParameterError(
                f"this pass should show {self._candidates} elements, got {self._found}, "
                f"and {self._beyond} larger ones, got {self._larger}"
            )
        guessed, counted = self._guessed, self._candidates > CANDIDATES_MAX
        self._guessed, self._candidates, self._beyond = False, self._found, self._larger
        rank = self._rank - self._beyond
        if rank <= 0:
            self._low, self._high = self._high + 1, _LARGEST
            self._candidates, self._beyond = self._larger, 0
        elif rank > self._found:
            self._low, self._high = 0, self._low - 1
            self._candidates, self._beyond = (
                self._total - self._larger - self._found,
                self._larger + self._found,
            )
        elif not counted and self._found <= CANDIDATES_MAX:
            self._cut = self._cut_of_kept(rank)
        elif counted and self._low < self._high:
            self._descend(rank)
        elif counted and not guessed:
            self._cut = Cut(_magnitude(self._low), self._last)

    def _descend(self, rank: int) -> None:
        """Look at one of the digits that were counted from now on."""
        at_least = self._counts[::-1].cumsum()[::-1]
        digit = int(np.count_nonzero(at_least >= rank)) - 1
        self._candidates = int(self._counts[digit])
        self._beyond += int(at_least[digit]) - self._candidates
        self._low += digit << self._shift
        self._high = min(self._low + (1 << self._shift) - 1, self._high)

    def _cut_of_kept(self, rank: int) -> Cut:
        patterns, indices = (np.concatenate(column) for column in zip(*self._kept, strict=True))
        place = len(patterns) - rank
        threshold = np.partition(patterns, place)[place]
        larger = np.count_nonzero(patterns > threshold)
        ties = indices[patterns == threshold]
        return Cut(_magnitude(threshold), int(ties[rank - larger - 1]))


def _magnitude(pattern: int | np.int64) -> float:
    return float(np.int64(pattern).view(np.float64))
