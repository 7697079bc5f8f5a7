"""Between stored bytes and float64: exactly in, rounded once out.

Every value of the storage types is a float64, so decoding rounds nothing. Encoding rounds to nearest,
ties to even, and refuses what no finite number of the type is near. A cast from float64 to the half types
in one step rounds twice on some machines (through float32) and once on others; here it goes by *rounding to
odd* first, which makes a second rounding harmless. Types of eight bits have `eighths` to themselves.

Both zeros pass in either direction: -0.0 is stored and read as such, and a negative number that rounds to
zero becomes -0.0, as IEEE 754 has it. Elements that are not floating are never converted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.eighths import EIGHTHS
from crdtmerge.arith.pending import Elements, Result, Target, decoded, plain
from crdtmerge.digest import Readable
from crdtmerge.dtypes import DType
from crdtmerge.errors import NonFiniteError, ParameterError

_TORCH: Final = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
}

KINDS: Final = {
    DType.F32: compiled.FLOAT32,
    DType.BF16: compiled.BFLOAT16,
    DType.F16: compiled.FLOAT16,
}
"""What loops call the types that they round to."""

_INFINITY_PATTERN: Final = {
    DType.F64: 0x7FF << 52,
    DType.F32: 0xFF << 23,
    DType.F16: 0x1F << 10,
    DType.BF16: 0xFF << 7,
} | {dtype: form.beyond for dtype, form in EIGHTHS.items()}
"""Bit patterns without sign from here on are infinity and NaN."""

_STICKY: Final = (1 << 40) - 1
"""The low bits of a float64 that rounding to odd gathers in one: 13 significant bits stay.

That is two more than float16 has and five more than bfloat16, as innocuous double rounding needs, and few
enough that float32 holds them exactly, among its subnormals down to 2^-137 too. What is smaller still
rounds to zero in either type.
"""

# What of a float32's pattern a half type cuts off, when it lies half-way, and the least normal float16.
_HALFWAY_BF16: Final = 0x8000
_BELOW_F16: Final = np.uint32(0x1FFF)
_HALFWAY_F16: Final = 0x1000
_MAGNITUDE_F32: Final = np.uint32(0x7FFFFFFF)
_LEAST_F16: Final = 0x38800000

_SCATTERED: Final = 8
"""When more than one element in so many is doubtful, rounding all of them to odd is faster."""

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
    if dtype.itemsize >= 4:
        with np.errstate(invalid="ignore"):  # NaN is for `non_finite` to find, not for a warning to tell
            return torch.from_numpy(np.frombuffer(raw, f"<f{dtype.itemsize}").astype(np.float64))
    if dtype.itemsize == 1:
        return EIGHTHS[dtype].decode(np.frombuffer(raw, np.uint8))
    stored = torch.from_numpy(np.frombuffer(raw, "<i2").astype(np.int16)).view(_TORCH[dtype])
    # From float16 to float64 in one step torch goes element by element; float32 holds all of either.
    return stored.double() if dtype is DType.BF16 else stored.float().double()


def encode(values: Elements, dtype: DType) -> bytes:
    """Return [n] elements as little-endian elements of ``dtype``, each rounded once; -0.0 stays -0.0.

    Raises:
        ParameterError: if the type is not floating.
        NonFiniteError: if a value is not finite, or would not be in ``dtype``.
    """
    raw = bytearray(len(values) * dtype.itemsize)
    encode_into(memoryview(raw), values, dtype)
    return bytes(raw)


def encode_into(out: memoryview, values: Elements, dtype: DType) -> None:
    """Write what `encode` returns to memory of just that size; raises as it does."""
    _require_floating(dtype)
    if len(out) != len(values) * dtype.itemsize:
        raise ParameterError(f"{len(out)} bytes are no room for {len(values)} {dtype.code} elements")
    if not len(values) or _encoded_by_loops(out, values, dtype):
        return
    values = decoded(values).cpu().contiguous()
    if dtype.itemsize == 1:
        stored = EIGHTHS[dtype].encode(values)
    elif dtype.itemsize == 2:
        stored = _single(values, dtype).to(_TORCH[dtype]).view(torch.int16)
    else:
        stored = values.to(_TORCH[dtype])
    array = stored.numpy()
    np.frombuffer(out, f"<{array.dtype.kind}{array.itemsize}")[:] = array
    bad = non_finite(out, dtype)
    if bad is not None:
        raise NonFiniteError(f"element {bad} is {values[bad].item()!r}, which no finite {dtype.code} is near")


def _encoded_by_loops(out: memoryview, values: Elements, dtype: DType) -> bool:
    """Whether a loop did it, and all are finite."""
    loops, kind = compiled.kernels(), KINDS.get(dtype)
    if loops is None or kind is None:
        return False
    room = np.frombuffer(out, np.uint8)
    target = Target(room.ctypes.data, kind)
    if target.address % dtype.itemsize:
        return False
    if isinstance(values, Result) and values.fresh:
        return bool(values.write(loops, target))
    tensor = decoded(values).cpu().contiguous()
    return plain(tensor) and bool(loops.encode(tensor.numpy(), np.array([target], compiled.TARGET)))


def non_finite(raw: Readable, dtype: DType, *, bound: float | None = None) -> int | None:
    """Return the index of the first NaN, infinity or |x| >= ``bound`` in ``raw``; None if there is none.

    Patterns are compared, nothing is decoded. Types that are not floating have no such elements.

    Args:
        raw: little-endian elements.
        dtype: their type.
        bound: a magnitude that is too large; None lets all finite numbers pass.

    Raises:
        ParameterError: if the bound is not positive.
    """
    if bound is not None and not bound > 0:
        raise ParameterError(f"a bound of magnitudes is positive, got {bound!r}")
    if not dtype.floating:
        return None
    limit = _INFINITY_PATTERN[dtype] if bound is None else _first_pattern(dtype, bound)
    patterns = np.frombuffer(raw, f"<u{dtype.itemsize}")
    sign = 1 << (8 * dtype.itemsize - 1)
    step = _SCAN_BYTES // dtype.itemsize
    for start in range(0, len(patterns), step):
        chunk = patterns[start : start + step]
        # Read with sign, patterns of negative numbers are below all others; read without, above.
        if chunk.view(f"<i{dtype.itemsize}").max() >= limit or chunk.max() >= sign + limit:
            return start + int(((chunk & chunk.dtype.type(sign - 1)) >= limit).argmax())
    return None


@lru_cache(maxsize=64)
def _first_pattern(dtype: DType, bound: float) -> int:
    """Return the smallest pattern without sign that is not finite or whose magnitude reaches ``bound``."""
    low, high = 0, _INFINITY_PATTERN[dtype]
    while low < high:
        middle = (low + high) // 2
        value = decode(middle.to_bytes(dtype.itemsize, "little"), dtype).item()
        low, high = (middle + 1, high) if value < bound else (low, middle)
    return low


def _require_floating(dtype: DType) -> None:
    if not dtype.floating:
        raise ParameterError(f"{dtype.code} elements are not computed with")


def _single(values: Tensor, dtype: DType) -> Tensor:
    """Return float32s that round to the half type as ``values`` would in one step.

    Rounding to nearest keeps order and keeps what float32 holds, half-way points too. So it can bring a value
    onto such a point but not over it: only there are two roundings other than one.
    """
    single = values.float()
    bits = single.numpy().view(np.uint32)
    if dtype is DType.BF16:
        doubtful = bits.astype(np.uint16) == _HALFWAY_BF16
    else:  # a subnormal number may be anywhere between two others: its half-way points are not looked for
        doubtful = (bits & _BELOW_F16) == _HALFWAY_F16
        doubtful |= (bits & _MAGNITUDE_F32) - np.uint32(1) < _LEAST_F16 - 1
    count = np.count_nonzero(doubtful)
    if _SCATTERED * count > len(values):
        return _to_odd(values).float()
    if count:
        places = torch.from_numpy(np.flatnonzero(doubtful))
        single[places] = _to_odd(values[places]).float()
    return single


def _to_odd(values: Tensor) -> Tensor:
    """Cut each value to 13 bits and set the last of them if anything was cut off."""
    bits = values.contiguous().view(torch.int64)
    odd = bits & _STICKY
    odd += _STICKY  # carries into bit 40 iff one of the low bits was set
    odd |= bits
    odd &= ~_STICKY
    return odd.view(torch.float64)
