"""Random numbers that everybody draws alike.

A draw has an address: the seed, the strategy with its version and parameters, the contribution, the
tensor and the element. Bits come from BLAKE3 keyed by all but the last, at an offset given by the
last: so a tile anywhere costs no more than a tile at the front, and neither tiles nor threads nor any
process-wide generator can show in the result.

Each kind of draw that takes 64-bit words has a stream of its own below the key, so a mask, a normal draw
and a permutation under one key have nothing in common.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from crdtmerge import canon
from crdtmerge.arith.gaussian import normal_quantile
from crdtmerge.digest import Digest, Domain, digest, keyed, stream
from crdtmerge.errors import ParameterError

Words: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint32]]
_LongWords: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint64]]

_LONG_BYTES: Final = 8
_WORD_BYTES: Final = 4
_WORD_BITS: Final = 32


def key(
    seed: Digest, strategy: str, version: int, parameters: bytes, contribution: Digest, tensor: str
) -> bytes:
    """Return the 32-byte key of all draws of one strategy for one tensor of one contribution.

    Args:
        seed: what makes draws differ between merges: normally the root of the visible set.
        strategy: its name.
        version: its version.
        parameters: their canonical bytes.
        contribution: digest of the contribution that is drawn for.
        tensor: its name.
    """
    return digest(Domain.DRAW, canon.encode([seed, strategy, version, parameters, contribution, tensor]))


def words(key: bytes, start: int, count: int) -> Tensor:
    """Return [count] float64: elements ``start`` and on of the uniform integers in [0, 2^32) of ``key``.

    Element i is bytes [4i, 4i + 4) of the key's stream, little-endian.
    """
    return torch.from_numpy(mask_words(key, start, count).astype(np.float64))


def keep_mask(key: bytes, start: int, count: int, probability: Fraction) -> Tensor:
    """Return [count] float64 of 1.0 with ``probability`` and else 0.0, for elements ``start`` and on.

    Element i is kept iff its word (see `words`) is less than ⌊probability · 2^32⌋.

    Raises:
        ParameterError: if the probability is not in [0, 1].
    """
    threshold = mask_threshold(probability)
    if threshold == 1 << _WORD_BITS:
        return torch.ones(count, dtype=torch.float64)
    kept = np.empty(count)
    np.less(mask_words(key, start, count), np.uint32(threshold), out=kept, casting="unsafe")
    return torch.from_numpy(kept)


def mask_threshold(probability: Fraction) -> int:
    """Return ⌊probability · 2^32⌋; raises as `keep_mask` does."""
    if not 0 <= probability <= 1:
        raise ParameterError(f"a probability is in [0, 1], got {probability}")
    return (probability.numerator << _WORD_BITS) // probability.denominator


def mask_words(key: bytes, start: int, count: int) -> Words:
    """Return [count] uint32, what `words` returns."""
    raw = stream(key, length=_WORD_BYTES * count, offset=_WORD_BYTES * start)
    return np.frombuffer(raw, dtype="<u4")


def uniform(key: bytes, start: int, count: int) -> Tensor:
    """Return [count] float64 in [0, 1), elements ``start`` and on: multiples of 2^-53, all equally likely.

    Element i is ⌊w / 2^11⌋ · 2^-53 for the 64-bit word w = i of the stream ``uniform``.
    """
    return _fraction(_long_words(key, "uniform", start, count), 53)


def normal(key: bytes, start: int, count: int) -> Tensor:
    """Return [count] float64, elements ``start`` and on of independent standard normal numbers.

    Element i is the `normal_quantile` of (2⌊w / 2^12⌋ + 1) · 2^-53, an odd multiple in (0, 1), for the 64-bit
    word w = i of the stream ``normal``. So x and -x are equally likely to the bit, no element is zero, and
    none exceeds 8.21 in magnitude: what a true normal number does once in 2^52 draws.
    """
    middle = _fraction(_long_words(key, "normal", start, count), 52).add_(2.0**-53)
    return normal_quantile(middle)


def permutation(key: bytes, count: int) -> Tensor:
    """Return [count] int64, the numbers below ``count`` in an order that only the key decides.

    They are sorted by their 64-bit words in the stream ``permutation``, equal words by the number itself. A
    tie, which makes an order more likely than it should be, has a chance below count² / 2^65.
    """
    words = _long_words(key, "permutation", 0, count)
    return torch.from_numpy(np.argsort(words, kind="stable").astype(np.int64, copy=False))


def _fraction(words: _LongWords, bits: int) -> Tensor:
    """Return the upper bits as a number in [0, 1)."""
    return torch.from_numpy((words >> np.uint64(64 - bits)).astype(np.float64)).mul_(2.0**-bits)


def _long_words(key: bytes, kind: str, start: int, count: int) -> _LongWords:
    raw = stream(keyed(key, kind.encode()), length=_LONG_BYTES * count, offset=_LONG_BYTES * start)
    return np.frombuffer(raw, dtype="<u8")
