"""A draw depends on its address and on nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.arith import draw, keep_mask
from crdtmerge.digest import Digest
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
