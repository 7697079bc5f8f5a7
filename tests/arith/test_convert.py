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

from crdtmerge import arith
from crdtmerge.arith import Tensor, decode, draw, encode, non_finite
from crdtmerge.dtypes import DType
from crdtmerge.errors import NonFiniteError, ParameterError
from crdtmerge.resolve.statedict import from_raw, to_raw
from reference import arith as reference

FLOATING = [dtype for dtype in DType if dtype.floating]
HALVES = [DType.F16, DType.BF16]
EIGHTHS = [DType.F8_E4M3, DType.F8_E5M2]
SMALL = [*HALVES, *EIGHTHS]
NARROW = [DType.F32, *HALVES]
floating = pytest.mark.parametrize("dtype", FLOATING, ids=lambda d: d.code)
eighths = pytest.mark.parametrize("dtype", EIGHTHS, ids=lambda d: d.code)
small = pytest.mark.parametrize("dtype", SMALL, ids=lambda d: d.code)
narrow = pytest.mark.parametrize("dtype", NARROW, ids=lambda d: d.code)


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def packed(patterns: list[int], dtype: DType) -> bytes:
    return b"".join(pattern.to_bytes(dtype.itemsize, "little") for pattern in patterns)


def finite_patterns(dtype: DType) -> list[int]:
    infinity = reference.FORMATS[dtype.code].infinity
    return [sign << 8 * dtype.itemsize - 1 | magnitude for sign in (0, 1) for magnitude in range(infinity)]


def halfway(dtype: DType) -> list[float]:
    """All numbers half-way between two successive ones of ``dtype`` that are not negative."""
    values = [reference.FORMATS[dtype.code].value(p) for p in range(reference.FORMATS[dtype.code].infinity)]
    return [float((a + b) / 2) for a, b in pairwise(values)]


@small
def test_every_small_pattern_decodes_to_the_number_it_stands_for(dtype: DType) -> None:
    patterns = finite_patterns(dtype)
    wanted = [float(reference.FORMATS[dtype.code].value(pattern)) for pattern in patterns]
    assert decode(packed(patterns, dtype), dtype).tolist() == wanted


@small
def test_every_small_pattern_survives_decoding_and_encoding(dtype: DType) -> None:
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


@small
def test_every_tie_goes_to_the_even_pattern_and_its_neighbours_to_theirs(dtype: DType) -> None:
    ties = halfway(dtype)
    lower = list(range(len(ties)))
    even = [pattern + pattern % 2 for pattern in lower]
    upper = [pattern + 1 for pattern in lower]
    below = [math.nextafter(tie, -math.inf) for tie in ties]
    above = [math.nextafter(tie, math.inf) for tie in ties]
    for inputs, patterns in ((below, lower), (ties, even), (above, upper)):
        assert encode(float64(*inputs), dtype) == packed(patterns, dtype)
        negative = [pattern | 1 << 8 * dtype.itemsize - 1 for pattern in patterns]
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


@pytest.mark.parametrize("dtype", [*NARROW, *EIGHTHS], ids=lambda d: d.code)
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


@pytest.mark.parametrize("dtype", HALVES, ids=lambda d: d.code)
@pytest.mark.parametrize("spread", [1, 8, 40])
def test_values_next_to_ties_are_rounded_once_however_many_others_stand_between(
    dtype: DType, spread: int
) -> None:
    ties = halfway(dtype)[::101]
    values = [math.nextafter(tie, side) for tie in ties for side in (tie, 0.0, math.inf)]
    among = torch.ones(spread * len(values), dtype=torch.float64)
    among[::spread] = float64(*values)
    alone = b"".join(encode(float64(value), dtype) for value in values)
    one = encode(float64(1.0), dtype)
    wanted = b"".join(alone[i : i + 2] + one * (spread - 1) for i in range(0, len(alone), 2))
    assert encode(among, dtype) == wanted


@narrow
def test_the_largest_number_is_reached_and_half_a_step_beyond_it_is_refused(dtype: DType) -> None:
    form = reference.FORMATS[dtype.code]
    largest = form.infinity - 1
    limit = float((form.value(largest) + Fraction(2) ** (form.exponent_max + 1)) / 2)
    assert encode(float64(math.nextafter(limit, 0)), dtype) == packed([largest], dtype)
    for sign in (1, -1):
        with pytest.raises(NonFiniteError, match="element 1 "):
            encode(float64(0.0, sign * limit), dtype)


@eighths
def test_a_type_of_eight_bits_overflows_where_a_number_beyond_its_largest_would_be_nearer(
    dtype: DType,
) -> None:
    form = reference.FORMATS[dtype.code]
    largest = form.infinity - 1
    limit = float((form.value(largest) + form.value(largest + 1)) / 2)
    # 448 has an even pattern and wins the tie with 480, which E4M3 does not have; 57344 is odd and loses.
    last = limit if largest % 2 == 0 else math.nextafter(limit, 0)
    assert limit == {DType.F8_E4M3: 464.0, DType.F8_E5M2: 61440.0}[dtype]
    assert encode(float64(last, -last), dtype) == bytes([largest, largest | 128])
    for beyond in (math.nextafter(last, math.inf), 2 * limit, 1.7e308):
        for sign in (1, -1):
            with pytest.raises(NonFiniteError, match="element 1 "):
                encode(float64(0.0, sign * beyond), dtype)


@eighths
def test_eight_bits_agree_with_torch_where_it_rounds_once(dtype: DType) -> None:
    kind = {DType.F8_E4M3: torch.float8_e4m3fn, DType.F8_E5M2: torch.float8_e5m2}[dtype]
    x = (draw.normal(bytes(32), 0, 20_000) * arith.exp(draw.normal(bytes(32), 20_000, 20_000) * 2.0)).float()
    x = x[x.abs() < 440]
    assert encode(x.double(), dtype) == x.to(kind).view(torch.uint8).numpy().tobytes()


@eighths
def test_what_is_not_finite_in_eight_bits_decodes_to_nan(dtype: DType) -> None:
    beyond = bytes(range(reference.FORMATS[dtype.code].infinity, 128))
    assert decode(beyond, dtype).isnan().all()
    assert decode(bytes(b | 128 for b in beyond), dtype).isnan().all()


@small
def test_a_negative_number_that_rounds_to_zero_becomes_negative_zero(dtype: DType) -> None:
    least = float(reference.FORMATS[dtype.code].value(1))
    assert encode(float64(-least / 2, least / 2, -5e-324), dtype) == packed(
        [1 << 8 * dtype.itemsize - 1, 0, 1 << 8 * dtype.itemsize - 1], dtype
    )


@pytest.mark.parametrize(
    "kind",
    [torch.int64, torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2],
    ids=str,
)
def test_buffers_of_every_type_pass_through_a_state_dict_unchanged(kind: torch.dtype) -> None:
    buffer = torch.tensor([0, 1, 1, 0, 2, -3]).abs().to(kind).reshape(2, 3)
    ((dtype, shape, raw),) = to_raw({"buffer": buffer}).values()
    back = from_raw(dtype, shape, raw)
    assert back.dtype == kind
    assert torch.equal(back.view(torch.uint8), buffer.view(torch.uint8))
    assert from_raw(dtype, (0,), b"").dtype == kind


@floating
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_encoded(dtype: DType, bad: float) -> None:
    with pytest.raises(NonFiniteError, match="element 2 "):
        encode(float64(1.0, 2.0, bad, 3.0), dtype)


@floating
def test_negative_zero_keeps_its_sign(dtype: DType) -> None:
    assert encode(float64(-0.0), dtype) == packed([1 << (8 * dtype.itemsize - 1)], dtype)


@pytest.mark.parametrize(
    ("raw", "dtype"),
    [(b"\1\0\xa0\x7f", DType.F32), (bytes(6) + b"\xf4\x7f", DType.F64), (b"\1\x7d", DType.F16)],
)
def test_a_signalling_nan_is_read_without_a_warning(raw: bytes, dtype: DType) -> None:
    assert non_finite(raw, dtype) == 0
    assert decode(raw, dtype).isnan().all()


@floating
def test_nothing_becomes_nothing(dtype: DType) -> None:
    assert encode(decode(b"", dtype), dtype) == b""
    assert non_finite(b"", dtype) is None


@floating
def test_bytes_at_any_address_decode_alike(dtype: DType) -> None:
    numbers = range(1, 20 if dtype.itemsize > 1 else 9)  # all in the type
    raw = encode(float64(*numbers), dtype)
    for shift in range(8):
        assert decode(memoryview(bytes(shift) + raw)[shift:], dtype).tolist() == list(numbers)


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
        for pattern in (sign - 1, infinity, infinity | sign, min(infinity + 1, sign - 1)):
            raw[place * dtype.itemsize : (place + 1) * dtype.itemsize] = packed([pattern], dtype)
            assert non_finite(memoryview(raw), dtype) == place


@floating
@given(bound=st.floats(5e-324, allow_nan=False), data=st.data())
def test_magnitudes_from_a_bound_on_are_found_by_their_patterns(
    dtype: DType, bound: float, data: st.DataObject
) -> None:
    form = reference.FORMATS[dtype.code]
    near = [decode(packed([p], dtype), dtype).item() for p in (1, form.infinity - 1)]
    bound = data.draw(st.sampled_from([bound, min(bound, near[1]), near[0], near[1], 1.0]))
    patterns = data.draw(st.lists(st.integers(0, form.infinity - 1), max_size=9))
    signs = data.draw(st.lists(st.booleans(), min_size=len(patterns), max_size=len(patterns)))
    signed = [p | sign << form.width - 1 for p, sign in zip(patterns, signs, strict=True)]
    wanted = [i for i, p in enumerate(patterns) if float(form.value(p)) >= bound]
    assert non_finite(packed(signed, dtype), dtype, bound=bound) == (wanted[0] if wanted else None)


@floating
def test_the_bound_itself_is_too_large_and_its_neighbour_below_is_not(dtype: DType) -> None:
    form = reference.FORMATS[dtype.code]
    sixteen = form.round(Fraction(16))
    for pattern, found in ((sixteen - 1, None), (sixteen, 2), (sixteen | 1 << form.width - 1, 2)):
        assert non_finite(packed([0, 1, pattern], dtype), dtype, bound=16.0) == found
    # Between two numbers of the type, the upper one is the first that is too large.
    above = math.nextafter(16.0, 17.0)
    assert non_finite(packed([sixteen, sixteen + 1], dtype), dtype, bound=above) == 1
    assert non_finite(packed([form.infinity], dtype), dtype, bound=math.inf) == 0
    assert non_finite(packed([form.infinity - 1], dtype), dtype, bound=math.inf) is None


@pytest.mark.parametrize("bound", [0.0, -0.0, -1.0, math.nan])
def test_a_bound_that_is_not_positive_is_refused(bound: float) -> None:
    for dtype in (DType.F32, DType.I64):
        with pytest.raises(ParameterError, match="bound"):
            non_finite(b"", dtype, bound=bound)


def test_integers_are_below_every_bound() -> None:
    assert non_finite(b"\xff" * 8, DType.I64, bound=1e-9) is None
