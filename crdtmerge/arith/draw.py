"""Random numbers that everybody draws alike.

A draw has an address: the seed, the strategy with its version and parameters, the contribution, the
tensor and the element. Bits come from BLAKE3 keyed by all but the last, at an offset given by the
last: so a tile anywhere costs no more than a tile at the front, and neither tiles nor threads nor any
process-wide generator can show in the result.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import numpy as np
import torch
from torch import Tensor

from crdtmerge import canon
from crdtmerge.digest import Digest, Domain, digest, stream
from crdtmerge.errors import ParameterError

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
    return torch.from_numpy(_words(key, start, count).astype(np.float64))


def keep_mask(key: bytes, start: int, count: int, probability: Fraction) -> Tensor:
    """Return [count] float64 of 1.0 with ``probability`` and else 0.0, for elements ``start`` and on.

    Element i is kept iff its word (see `words`) is less than ⌊probability · 2^32⌋.

    Raises:
        ParameterError: if the probability is not in [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ParameterError(f"a probability is in [0, 1], got {probability}")
    threshold = (probability.numerator << _WORD_BITS) // probability.denominator
    if threshold == 1 << _WORD_BITS:
        return torch.ones(count, dtype=torch.float64)
    kept = np.empty(count)
    np.less(_words(key, start, count), np.uint32(threshold), out=kept, casting="unsafe")
    return torch.from_numpy(kept)


def _words(key: bytes, start: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    raw = stream(key, length=_WORD_BYTES * count, offset=_WORD_BYTES * start)
    return np.frombuffer(raw, dtype="<u4")
