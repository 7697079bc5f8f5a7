"""The fast strategies against the slow ones: to the bit where a definition fixes every operation."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies_harness import SEED, Contribution, merge, merged

from crdtmerge import arith, canon
from crdtmerge.strategy import find
from reference import strategies as slow

NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0]),  # ties and cancellations
    st.floats(-100, 100, width=32).map(lambda x: x + 0.0 if abs(x) > 1e-30 else 0.0),
)
WEIGHTS = st.one_of(st.just(Fraction(1)), st.decimals(-2, 5, places=1).map(Fraction))
POSITIVE = st.decimals("0.1", 5, places=1).map(Fraction)
DENSITIES = st.integers(1, 20).map(lambda n: Fraction(n, 20))


def bits(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


@st.composite
def merges(draw: st.DrawFn, weights: st.SearchStrategy[Fraction]) -> tuple[list[list[float]], list[Fraction]]:
    """Rows of a base and its contributions, and their weights."""
    size, count = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    row = st.lists(NUMBERS, min_size=size, max_size=size)
    return (
        draw(st.lists(row, min_size=count + 1, max_size=count + 1)),
        draw(st.lists(weights, min_size=count, max_size=count)),
    )


@given(
    merges(WEIGHTS),
    DENSITIES,
    st.sampled_from(["mean", "sum", "max"]),
    st.sampled_from(["majority", "plus", "drop"]),
    st.booleans(),
    st.sampled_from(["1", "0.3", "-2"]),
)
def test_ties_is_its_reference_to_the_bit(
    case: tuple[list[list[float]], list[Fraction]],
    density: Fraction,
    merge_func: str,
    zero: str,
    official: bool,
    scale: str,
) -> None:
    assume(not (official and density == 1))
    (base, *rows), weights = case
    expected = slow.ties(
        base,
        rows,
        weights,
        density=density,
        scale=Fraction(scale),
        merge_func=merge_func,
        zero=zero,
        official=official,
    )
    result = merged(
        "ties",
        rows,
        base,
        weights,
        density=density,
        scale=scale,
        merge_func=merge_func,
        zero=zero,
        compat="official" if official else "none",
    )
    assert bits(result) == bits(expected)


@given(merges(WEIGHTS), st.sampled_from(["0", "0.3", "0.5"]), st.one_of(st.none(), DENSITIES))
def test_dare_ties_is_its_reference_to_the_bit(
    case: tuple[list[list[float]], list[Fraction]], p: str, trim: Fraction | None
) -> None:
    (base, *rows), weights = case
    contributions = [
        Contribution(chr(65 + i), {"w": row}, weight)
        for i, (row, weight) in enumerate(zip(rows, weights, strict=True))
    ]
    parameters = {"p": p} if trim is None else {"p": p, "trim": str(float(trim))}
    strategy = find("dare_ties")
    arguments = strategy.read(tuple(parameters.items()))
    written = canon.encode([[key, str(value)] for key, value in sorted(arguments.items())])
    keys = [arith.draw.key(SEED, "dare_ties", strategy.version, written, c.key, "w") for c in contributions]
    expected = slow.dare_ties(base, rows, weights, keys, p=Fraction(p), trimmed_to=trim)
    result = merge(strategy, contributions, {"w": base}, parameters=parameters)["w"].tolist()
    assert bits(result) == bits(expected)


def close(rows: list[list[float]], expected: list[float]) -> object:
    return pytest.approx(expected, rel=0, abs=1e-7 * max(map(slow.norm, rows)) + 1e-300)


@given(merges(POSITIVE), st.integers(0, 20))
def test_slerp_of_two_is_its_reference(case: tuple[list[list[float]], list[Fraction]], t: int) -> None:
    v0, v1 = case[0][:2]
    assume(all(slow.norm(v) > 1e-6 or slow.norm(v) == 0 for v in (v0, v1)))
    cosine = slow.dot(slow.unit(v0), slow.unit(v1))
    assume(abs(abs(cosine) - 0.9995) > 1e-9)
    assert merged("slerp", [v0, v1], t=Fraction(t, 20)) == close([v0, v1], slow.slerp(v0, v1, t / 20))


@given(merges(POSITIVE))
def test_karcher_is_its_reference(case: tuple[list[list[float]], list[Fraction]]) -> None:
    rows, weights = case[0][1:], case[1]
    assume(len(rows) > 2)
    units = [slow.unit(row) for row in rows]
    # Where directions nearly cancel, rounding chooses among ends that are far apart.
    assume(slow.norm(slow.combine([1.0] * len(units), units)) > 0.1)
    assume(all(slow.dot(a, b) > -0.99 for a in units for b in units))
    assert merged("slerp", rows, weights=weights) == close(rows, slow.karcher(rows, weights))


@given(merges(POSITIVE))
def test_fold_is_its_reference(case: tuple[list[list[float]], list[Fraction]]) -> None:
    rows, weights = case[0][1:], case[1]
    assume(len(rows) > 2)
    result, total = rows[0], weights[0]
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        assume(all(slow.norm(v) > 1e-3 for v in (result, row)))
        cosine = slow.dot(slow.unit(result), slow.unit(row))
        assume(abs(abs(cosine) - 0.9995) > 1e-6)
        total += weight
        result = slow.slerp(result, row, float(weight / total))
    assert merged("slerp", rows, weights=weights, method="fold") == close(rows, slow.fold(rows, weights))
