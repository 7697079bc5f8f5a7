"""A draw depends on its address and on nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import arith
from crdtmerge.arith import draw, keep_mask
from crdtmerge.arith.gaussian import normal_quantile
from crdtmerge.digest import Digest, stream
from crdtmerge.errors import ParameterError
from reference import arith as reference

KEYS = st.binary(min_size=32, max_size=32)
PROBABILITIES = st.fractions(0, 1)
ADDRESS: Mapping[str, object] = {
    "seed": Digest(bytes(32)),
    "strategy": "dare",
    "version": 1,
    "parameters": b"\x90",
    "contribution": Digest(bytes([1]) * 32),
    "tensor": "layers.0.weight",
}


def key(**changes: object) -> bytes:
    return draw.key(**{**ADDRESS, **changes})  # type: ignore[arg-type]


@given(KEYS, st.integers(0, 5000), st.integers(0, 200))
def test_words_are_the_stream_read_in_fours(key: bytes, start: int, count: int) -> None:
    assert draw.words(key, start, count).tolist() == reference.words(key, start, count)


@given(KEYS, st.integers(0, 5000), st.integers(0, 200), PROBABILITIES)
def test_an_element_is_kept_where_its_word_is_below_the_threshold(
    key: bytes, start: int, count: int, p: Fraction
) -> None:
    assert keep_mask(key, start, count, p).tolist() == reference.keep_mask(key, start, count, p)


@given(KEYS, st.integers(0, 300), st.integers(0, 300), st.integers(0, 1 << 40), PROBABILITIES)
def test_tiles_do_not_show(key: bytes, a: int, b: int, start: int, p: Fraction) -> None:
    whole = keep_mask(key, start, a + b, p).tolist()
    assert keep_mask(key, start, a, p).tolist() + keep_mask(key, start + a, b, p).tolist() == whole


@given(KEYS)
def test_probability_one_keeps_everything_and_zero_nothing(key: bytes) -> None:
    assert keep_mask(key, 0, 1000, Fraction(1)).tolist() == [1.0] * 1000
    assert keep_mask(key, 0, 1000, Fraction(0)).tolist() == [0.0] * 1000


@given(KEYS, st.integers(0, 1000))
def test_thresholds_are_exact_at_the_word_itself(key: bytes, i: int) -> None:
    word = int(draw.words(key, i, 1).item())
    assert keep_mask(key, i, 1, Fraction(word, 1 << 32)).item() == 0.0
    assert keep_mask(key, i, 1, Fraction(word + 1, 1 << 32)).item() == 1.0
    # The threshold is rounded down: anything short of word + 1 does not keep it.
    assert keep_mask(key, i, 1, Fraction(word + 1, 1 << 32) - Fraction(1, 10**30)).item() == 0.0


@given(KEYS, PROBABILITIES, PROBABILITIES)
def test_a_larger_probability_keeps_what_a_smaller_one_keeps(key: bytes, p: Fraction, q: Fraction) -> None:
    few, many = sorted((p, q))
    assert bool((keep_mask(key, 0, 500, few) <= keep_mask(key, 0, 500, many)).all())


def test_the_share_that_is_kept_is_the_probability() -> None:
    n, p = 1_000_000, Fraction(1, 5)
    share = keep_mask(key(), 0, n, p).nonzero().shape[0] / n
    assert abs(share - p) < 5 * (float(p * (1 - p)) / n) ** 0.5


@pytest.mark.parametrize("p", [Fraction(-1, 10**9), 1 + Fraction(1, 10**9)])
def test_what_is_no_probability_is_refused(p: Fraction) -> None:
    with pytest.raises(ParameterError, match="probability"):
        keep_mask(key(), 0, 1, p)


def test_every_part_of_the_address_counts() -> None:
    others = [
        key(seed=Digest(bytes([2]) * 32)),
        key(strategy="della"),
        key(version=2),
        key(parameters=b"\x91"),
        key(contribution=Digest(bytes([3]) * 32)),
        key(tensor="layers.1.weight"),
        key(strategy="dar", tensor="elayers.0.weight"),
    ]
    assert len({key(), *others}) == len(others) + 1
    assert all(len(other) == 32 for other in others)


def test_the_key_of_an_address_never_changes() -> None:
    address = b"".join(
        [
            b"\x96",  # an array of six
            b"\xc4\x20" + bytes(32),
            b"\xa4dare",
            b"\x01",
            b"\xc4\x01\x90",
            b"\xc4\x20" + bytes([1]) * 32,
            b"\xaflayers.0.weight",
        ]
    )
    assert key() == blake3(address, derive_key_context="crdtmerge 2026 v1 draw").digest()
    assert draw.words(key(), 0, 3).tolist() == [2563337799.0, 1501456177.0, 4028511977.0]


@given(KEYS, st.integers(0, 1 << 40), st.integers(0, 60))
def test_uniform_numbers_are_the_upper_bits_of_long_words(key: bytes, start: int, count: int) -> None:
    assert draw.uniform(key, start, count).tolist() == reference.uniform(key, start, count)


@given(KEYS, st.integers(0, 1 << 40), st.integers(0, 60))
def test_normal_numbers_are_quantiles_of_odd_multiples(key: bytes, start: int, count: int) -> None:
    p = torch.tensor(reference.odd_shares(key, start, count), dtype=torch.float64)
    assert torch.equal(draw.normal(key, start, count), normal_quantile(p))


@given(KEYS, st.integers(0, 300), st.integers(0, 300), st.integers(0, 1 << 40))
def test_tiles_of_numbers_do_not_show(key: bytes, a: int, b: int, start: int) -> None:
    for numbers in (draw.uniform, draw.normal):
        parts = [numbers(key, start, a), numbers(key, start + a, b)]
        assert torch.equal(torch.cat(parts), numbers(key, start, a + b))


@given(KEYS, st.integers(0, 60))
def test_a_permutation_sorts_long_words(key: bytes, count: int) -> None:
    assert draw.permutation(key, count).tolist() == reference.permutation(key, count)


def test_equal_words_keep_the_order_of_their_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    same = np.array([7, 3] * 50, dtype=np.uint64)
    monkeypatch.setattr(draw, "_long_words", lambda *_: same)
    assert draw.permutation(key(), 100).tolist() == [*range(1, 100, 2), *range(0, 100, 2)]


def test_every_order_of_four_is_equally_likely() -> None:
    n = 6000
    orders = Counter(tuple(draw.permutation(key(tensor=str(i)), 4).tolist()) for i in range(n))
    assert len(orders) == 24
    assert sum((seen - n / 24) ** 2 / (n / 24) for seen in orders.values()) < 60  # χ², 23 degrees: 1 in 10^4


def test_uniform_numbers_fill_the_unit_interval() -> None:
    n = 1_000_000
    u = draw.uniform(key(), 0, n)
    assert 0 <= u.min().item() < 1e-5
    assert 1 - 1e-5 < u.max().item() < 1
    assert abs(arith.mean(u) - 1 / 2) < 5 * (1 / 12 / n) ** 0.5
    assert abs(arith.variance(u) - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    assert (u * 2.0**53).remainder(2.0).count_nonzero().item() > 0.49 * n  # the last bit is used


def test_normal_numbers_have_the_moments_and_tails_of_the_distribution() -> None:
    n = 1_000_000
    z = draw.normal(key(), 0, n)
    assert abs(arith.mean(z)) < 5 / n**0.5
    assert abs(arith.variance(z) - 1) < 5 * (2 / n) ** 0.5
    assert abs(arith.mean(z * z * z)) < 5 * (15 / n) ** 0.5
    assert abs(arith.mean(z * z * z * z) - 3) < 5 * (96 / n) ** 0.5
    for bound in (0.5, 1.0, 2.0, 3.0, 4.0):
        p = math.erfc(bound / 2**0.5)
        found = int((z.abs() > bound).count_nonzero())
        assert abs(found - n * p) < 5 * (n * p * (1 - p)) ** 0.5
    assert abs(arith.cosine(z[1:], z[:-1])) < 5 / n**0.5


def test_the_least_likely_normal_number_is_where_it_is_said_to_be() -> None:
    low, high = normal_quantile(torch.tensor([2.0**-53, 1 - 2.0**-53], dtype=torch.float64)).tolist()
    assert low == -high
    assert 8.2 < high < 8.21


@given(st.floats(1e-300, 0.5) | st.floats(0.01, 0.5) | st.integers(0, 53).map(lambda n: 0.5**n / 2))
def test_quantiles_of_the_normal_distribution_are_good_to_48_bits(p: float) -> None:
    x = normal_quantile(torch.tensor([p], dtype=torch.float64)).item()
    with mpmath.workprec(200):
        excess = mpmath.ncdf(x) - p
        assert abs(excess) <= mpmath.npdf(x) * abs(mpmath.mpf(x)) * 2.0**-48


@given(st.integers(1, 2**52 - 1))
def test_the_quantile_function_is_odd_about_a_half(part: int) -> None:
    p = part * 2.0**-53
    low, high = normal_quantile(torch.tensor([p, 1 - p], dtype=torch.float64)).tolist()
    assert low == -high


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.5, math.nan])
def test_there_are_no_quantiles_outside_the_unit_interval(bad: float) -> None:
    with pytest.raises(ParameterError, match="0 < p < 1"):
        normal_quantile(torch.tensor([0.5, bad], dtype=torch.float64))
    assert normal_quantile(torch.empty(0, dtype=torch.float64)).tolist() == []


def test_kinds_of_draws_and_tensors_share_no_stream() -> None:
    streams = [draw._long_words(key(), kind, 0, 500) for kind in ("uniform", "normal", "permutation")]
    streams.append(draw._long_words(key(tensor="another"), "uniform", 0, 500))
    streams.append(np.frombuffer(stream(key(), length=4000), dtype="<u8"))
    assert len(np.unique(np.concatenate(streams))) == 5 * 500
