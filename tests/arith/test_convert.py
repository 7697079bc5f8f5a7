"""Bytes to float64 is exact; float64 to bytes rounds once, to nearest even, or refuses."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import Tensor, decode, encode, non_finite
from crdtmerge.dtypes import DType
from crdtmerge.errors import NonFiniteError, ParameterError
from reference import arith as reference

FLOATING = [dtype for dtype in DType if dtype.floating]
HALVES = [DType.F16, DType.BF16]
NARROW = [DType.F32, *HALVES]
floating = pytest.mark.parametrize("dtype", FLOATING, ids=lambda d: d.code)
halves = pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.code)
narrow = pytest.mark.parametrize("dtype", NARROW, ids=lambda d: d.code)


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def packed(patterns: list[int], dtype: DType) -> bytes:
    return b"".join(pattern.to_bytes(dtype.itemsize, "little") for pattern in patterns)


def finite_patterns(dtype: DType) -> list[int]:
    infinity = reference.FORMATS[dtype.code].infinity
    return [sign << 15 | magnitude for sign in (0, 1) for magnitude in range(infinity)]


def halfway(dtype: DType) -> list[float]:
    """All numbers half-way between two successive ones of ``dtype`` that are not negative."""
    values = [reference.FORMATS[dtype.code].value(p) for p in range(reference.FORMATS[dtype.code].infinity)]
    return [float((a + b) / 2) for a, b in pairwise(values)]


@halves
def test_every_half_precision_pattern_decodes_to_the_number_it_stands_for(dtype: DType) -> None:
    patterns = finite_patterns(dtype)
    wanted = [float(reference.FORMATS[dtype.code].value(pattern)) for pattern in patterns]
    assert decode(packed(patterns, dtype), dtype).tolist() == wanted


@halves
def test_every_half_precision_pattern_survives_decoding_and_encoding(dtype: DType) -> None:
    raw = packed(finite_patterns(dtype), dtype)
    assert encode(decode(raw, dtype), dtype) == raw


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_single_precision_survives_decoding_and_encoding(values: list[float]) -> None:
    raw = struct.pack(f"<{len(values)}f", *values)
    assert decode(raw, DType.F32).tolist() == values
    assert encode(decode(raw, DType.F32), DType.F32) == raw


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_double_precision_survives_decoding_and_encoding(values: list[float]) -> None:
    raw = struct.pack(f"<{len(values)}d", *values)
    assert encode(decode(raw, DType.F64), DType.F64) == raw


@halves
def test_every_tie_goes_to_the_even_pattern_and_its_neighbours_to_theirs(dtype: DType) -> None:
    ties = halfway(dtype)
    lower = list(range(len(ties)))
    even = [pattern + pattern % 2 for pattern in lower]
    upper = [pattern + 1 for pattern in lower]
    below = [math.nextafter(tie, -math.inf) for tie in ties]
    above = [math.nextafter(tie, math.inf) for tie in ties]
    for inputs, patterns in ((below, lower), (ties, even), (above, upper)):
        assert encode(float64(*inputs), dtype) == packed(patterns, dtype)
        negative = [pattern | 1 << 15 for pattern in patterns]
        assert encode(-float64(*inputs), dtype) == packed(negative, dtype)


@given(
    magnitude=st.integers(0, reference.FORMATS["F32"].infinity - 2),
    nudge=st.sampled_from([-1, 0, 1]),
    negative=st.booleans(),
)
def test_single_precision_ties_go_to_even(magnitude: int, nudge: int, negative: bool) -> None:
    single = reference.FORMATS["F32"]
    tie = float((single.value(magnitude) + single.value(magnitude + 1)) / 2)
    x = math.nextafter(tie, nudge * math.inf) if nudge else tie
    x = -x if negative else x
    assert encode(float64(x), DType.F32) == packed(reference.encode([x], "F32"), DType.F32)


@narrow
@given(data=st.data())
def test_encoding_rounds_once_to_nearest_even(dtype: DType, data: st.DataObject) -> None:
    form = reference.FORMATS[dtype.code]
    bound = math.nextafter(float(form.value(form.infinity - 1)), 0)
    x = data.draw(st.floats(-bound, bound) | st.floats(-1, 1) | st.floats(-1e-37, 1e-37))
    assert encode(float64(x), dtype) == packed(reference.encode([x], dtype.code), dtype)


def test_a_value_that_two_roundings_get_wrong_is_right() -> None:
    # Just above the middle of 1 and 1 + 2^-10: float32 rounds it onto the middle, whence it falls to even.
    x = float64(1 + 2.0**-11 + 2.0**-40)
    assert x.float().half().item() == 1.0
    assert decode(encode(x, DType.F16), DType.F16).item() == 1 + 2.0**-10
    # The same in bfloat16's subnormal numbers, below what float32 holds in full.
    y = float64(2.0**-134 + 2.0**-160)
    assert y.float().bfloat16().double().item() == 0.0
    assert decode(encode(y, DType.BF16), DType.BF16).item() == 2.0**-133


@narrow
def test_the_largest_number_is_reached_and_half_a_step_beyond_it_is_refused(dtype: DType) -> None:
    form = reference.FORMATS[dtype.code]
    largest = form.infinity - 1
    limit = float((form.value(largest) + Fraction(2) ** (form.exponent_max + 1)) / 2)
    assert encode(float64(math.nextafter(limit, 0)), dtype) == packed([largest], dtype)
    for sign in (1, -1):
        with pytest.raises(NonFiniteError, match="element 1 "):
            encode(float64(0.0, sign * limit), dtype)


@floating
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_encoded(dtype: DType, bad: float) -> None:
    with pytest.raises(NonFiniteError, match="element 2 "):
        encode(float64(1.0, 2.0, bad, 3.0), dtype)


@floating
def test_negative_zero_keeps_its_sign(dtype: DType) -> None:
    assert encode(float64(-0.0), dtype) == packed([1 << (8 * dtype.itemsize - 1)], dtype)


@floating
def test_nothing_becomes_nothing(dtype: DType) -> None:
    assert encode(decode(b"", dtype), dtype) == b""
    assert non_finite(b"", dtype) is None


@floating
def test_bytes_at_any_address_decode_alike(dtype: DType) -> None:
    raw = encode(float64(*range(1, 20)), dtype)
    for shift in range(8):
        assert decode(memoryview(bytes(shift) + raw)[shift:], dtype).tolist() == list(range(1, 20))


def test_decoding_does_not_write_into_the_file() -> None:
    raw = bytearray(encode(float64(1.0, 2.0), DType.F64))
    decode(memoryview(raw), DType.F64).zero_()
    assert decode(bytes(raw), DType.F64).tolist() == [1.0, 2.0]


def test_a_broken_element_is_refused() -> None:
    with pytest.raises(ParameterError, match="7 bytes"):
        decode(bytes(7), DType.F32)


@pytest.mark.parametrize("dtype", [d for d in DType if not d.floating], ids=lambda d: d.code)
def test_integers_are_not_computed_with(dtype: DType) -> None:
    with pytest.raises(ParameterError, match=dtype.code):
        decode(bytes(8), dtype)
    with pytest.raises(ParameterError, match=dtype.code):
        encode(float64(1.0), dtype)
    assert non_finite(b"\xff" * 8, dtype) is None


@floating
def test_the_first_value_that_is_not_finite_is_found_wherever_it_stands(dtype: DType) -> None:
    chunk = (1 << 18) // dtype.itemsize
    infinity = reference.FORMATS[dtype.code].infinity
    sign = 1 << (8 * dtype.itemsize - 1)
    raw = bytearray(packed([infinity - 1 | sign], dtype) * (2 * chunk))
    assert non_finite(raw, dtype) is None
    for place in (2 * chunk - 1, chunk, chunk - 1, 1, 0):
        for pattern in (sign - 1, infinity, infinity | sign, infinity + 1):
            raw[place * dtype.itemsize : (place + 1) * dtype.itemsize] = packed([pattern], dtype)
            assert non_finite(memoryview(raw), dtype) == place
