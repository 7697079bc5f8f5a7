"""Between stored bytes and float64: exactly in, rounded once out.

Every value of the storage types is a float64, so decoding rounds nothing. Encoding rounds to nearest,
ties to even, and refuses what would become infinite. A cast from float64 to the half types in one step
rounds twice on some machines (through float32) and once on others; here it goes by *rounding to odd*
first, which makes a second rounding harmless.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from crdtmerge.digest import Readable
from crdtmerge.dtypes import DType
from crdtmerge.errors import NonFiniteError, ParameterError

_TORCH: Final = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
}

_INFINITY_PATTERN: Final = {
    DType.F64: 0x7FF << 52,
    DType.F32: 0xFF << 23,
    DType.F16: 0x1F << 10,
    DType.BF16: 0xFF << 7,
}
"""Bit patterns without sign from here on are infinity and NaN."""

_STICKY: Final = (1 << 40) - 1
"""The low bits of a float64 that rounding to odd gathers in one: 13 significant bits stay.

That is two more than float16 has and five more than bfloat16, as innocuous double rounding needs, and few
enough that float32 holds them exactly, among its subnormals down to 2^-137 too. What is smaller still
rounds to zero in either type.
"""

_SCAN_BYTES: Final = 1 << 18
"""Bytes looked at together: what stays in a processor's cache."""


def decode(raw: Readable, dtype: DType) -> Tensor:
    """Return the little-endian elements in ``raw`` as [n] float64; nothing is rounded.

    Raises:
        ParameterError: if the type is not floating or the length no multiple of its size.
    """
    _require_floating(dtype)
    if len(raw) % dtype.itemsize:
        raise ParameterError(f"{len(raw)} bytes are no whole number of {dtype.code} elements")
    stored = np.frombuffer(raw, f"<i{dtype.itemsize}").astype(f"i{dtype.itemsize}")
    return torch.from_numpy(stored).view(_TORCH[dtype]).double()


def encode(values: Tensor, dtype: DType) -> bytes:
    """Return [n] float64 as little-endian elements of ``dtype``, each rounded once; -0.0 stays -0.0.

    Raises:
        ParameterError: if the type is not floating.
        NonFiniteError: if a value is not finite, or would not be in ``dtype``.
    """
    _require_floating(dtype)
    exact = _to_odd(values).float() if dtype.itemsize == 2 else values
    rounded = exact.to(_TORCH[dtype]).cpu()
    array = (rounded.view(torch.int16) if dtype.itemsize == 2 else rounded).numpy()
    raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    bad = non_finite(raw, dtype)
    if bad is not None:
        raise NonFiniteError(f"element {bad} is {values[bad].item()!r}, which no finite {dtype.code} is near")
    return raw


def non_finite(raw: Readable, dtype: DType) -> int | None:
    """Return the index of the first NaN or infinity in ``raw``; None if there is none.

    Types that are not floating have none.
    """
    if not dtype.floating:
        return None
    patterns = np.frombuffer(raw, f"<u{dtype.itemsize}")
    infinity = _INFINITY_PATTERN[dtype]
    magnitude_bits = patterns.dtype.type((1 << (8 * dtype.itemsize - 1)) - 1)
    step = _SCAN_BYTES // dtype.itemsize
    for start in range(0, len(patterns), step):
        magnitudes = patterns[start : start + step] & magnitude_bits
        if magnitudes.max() >= infinity:
            return start + int((magnitudes >= infinity).argmax())
    return None


def _require_floating(dtype: DType) -> None:
    if not dtype.floating:
        raise ParameterError(f"{dtype.code} elements are not computed with")


def _to_odd(values: Tensor) -> Tensor:
    """Cut each value to 13 bits and set the last of them if anything was cut off."""
    bits = values.contiguous().view(torch.int64)
    odd = bits & _STICKY
    odd += _STICKY  # carries into bit 40 iff one of the low bits was set
    odd |= bits
    odd &= ~_STICKY
    return odd.view(torch.float64)
