"""DELLA and mergekit's linear kin: the catalogue's examples, ranks and probabilities, the draws."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, SEED, Contribution, merge, merged, tensor

from crdtmerge import arith, canon
from crdtmerge.arith import Tensor
from crdtmerge.errors import ParameterError
from crdtmerge.strategies import magnitude_drop
from crdtmerge.strategies.magnitude_drop import probabilities
from crdtmerge.strategy import Group, Member, Tile, find
from reference import dropping as slow

MASKS = [[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1]]
QUARTER = {"density": "0.5", "epsilon": "0.25"}


def inject(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(tile: Tile, _: object) -> list[Tensor]:
        return [tensor(mask)[tile.start : tile.stop] for mask in MASKS]

    monkeypatch.setattr(magnitude_drop, "ranked", chosen)
    monkeypatch.setattr(magnitude_drop, "bernoulli", chosen)


def tile(rows: Sequence[Sequence[float]], shape: tuple[int, ...]) -> Tile:
    members = tuple(Member(bytes([i]) * 32) for i in range(len(rows)))  # type: ignore[arg-type]
    base = tensor([0.0] * len(rows[0]))
    group = Group((("w", shape),), members)
    return Tile("w", shape, 0, base, tuple(map(tensor, rows)), (True,) * len(rows), group)


# -- probabilities --------------------------------------------------------------------------------------


def test_probabilities_of_the_fixture_are_the_catalogues() -> None:
    taus = [[x - b for x, b in zip(row, BASE, strict=True)] for row in F4]
    found = [q.tolist() for q in probabilities(tile(taus, (4,)), Fraction(1, 2), Fraction(1, 4))]
    expected = [
        [0.583333, 0.25, 0.75, 0.416667],
        [0.583333, 0.75, 0.25, 0.416667],
        [0.416667, 0.583333, 0.75, 0.25],
    ]
    for q, wanted in zip(found, expected, strict=True):
        assert q == pytest.approx(wanted, abs=1e-6)


def test_rows_are_ranked_by_themselves() -> None:
    (found,) = probabilities(tile([[1.0, 2.0, 9.0, 8.0]], (2, 2)), Fraction(1, 2), Fraction(1, 4))
    assert found.tolist() == [0.25, 0.75, 0.75, 0.25]


@pytest.mark.parametrize("shape", [(3, 1), ()], ids=str)
def test_an_element_alone_in_its_row_has_the_density(shape: tuple[int, ...]) -> None:
    rows = [[4.0] * math.prod(shape)]
    (found,) = probabilities(tile(rows, shape), Fraction(1, 2), Fraction(1, 4))
    assert found.tolist() == [0.5] * math.prod(shape)


@pytest.mark.parametrize(("density", "epsilon"), [("0.2", "0.2"), ("0.9", "0.11")])
def test_probabilities_outside_of_0_to_1_are_refused(density: str, epsilon: str) -> None:
    with pytest.raises(ParameterError, match="density must be more than epsilon"):
        merged("della", F4, BASE, density=density, epsilon=epsilon)


# -- the catalogue's examples ---------------------------------------------------------------------------


def test_della_with_the_catalogues_masks_is_the_catalogues(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch)
    result = merged("della", F4, BASE, **QUARTER)
    assert result == pytest.approx([1.8571429, 0.6666667, 5.0, 4.6], rel=1e-7)
    as_mergekit = merged("della", F4, BASE, **QUARTER, rescale="l1", normalize=False)
    assert as_mergekit == pytest.approx([0.0833333, 0.0, 4.0, 4.25], abs=1e-7)


def test_della_without_rescaling_keeps_what_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch)
    assert merged("della", F4, BASE, **QUARTER, rescale="none") == [1.5, 1.0, 2.0, 4.25]


def test_della_linear_with_the_catalogues_masks_is_the_catalogues(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch)
    weights = ["0.5"] * 3
    result = merged("della_linear", F4, BASE, weights, **QUARTER)
    assert result == pytest.approx([0.7916667, 1.9166667, 3.0, 4.125], rel=1e-7)


def test_dare_linear_with_the_catalogues_masks_is_the_catalogues(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch)
    result = merged("dare_linear", F4, BASE, density="0.5")
    assert result == pytest.approx([0.5833333, 1.8333333, 3.0, 4.25], rel=1e-7)
    assert merged("dare_linear", F4, BASE, density="0.5", rescale=False) == [1.25, 1.5, 2.5, 4.25]


def test_normalized_sums_are_means(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(monkeypatch)
    for name, extra in (("dare_linear", {}), ("della_linear", {"epsilon": "0.25"})):
        mean = merged(name, F4, BASE, density="0.5", normalize=True, **extra)
        third = merged(name, F4, BASE, density="0.5", scale="0.333333333333333333", **extra)
        assert mean == pytest.approx(third, rel=1e-12)


def test_weights_that_cancel_divide_by_one() -> None:
    for name in ("dare_linear", "della_linear"):
        result = merged(name, F4[:2], BASE, [1, -1], density=1, normalize=True)
        assert result == [0.5, 3.0, 1.5, 4.75]


# -- edges ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["della", "della_linear", "dare_linear"])
def test_a_density_of_one_drops_nothing(name: str) -> None:
    assert merged(name, F4[:1], BASE, density=1) == F4[0]


@pytest.mark.parametrize("rescale", ["inv_prob", "l1", "none"])
@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_no_difference_at_all_leaves_the_base(name: str, rescale: str) -> None:
    base = [1.0, 0.1, -7.5, -0.0]
    result = merged(name, [base, base], base, rescale=rescale)
    assert struct.pack("<4d", *result) == struct.pack("<4d", 1.0, 0.1, -7.5, 0.0)


def test_dropped_elements_are_plus_zero() -> None:
    for name in ("della", "della_linear", "dare_linear"):
        result = merged(name, [[-1.0] * 64], [-0.0] * 64, density="0.5")
        assert 0.0 in result
        assert all(math.copysign(1, x) == 1 for x in result if x == 0)


def test_dropping_everything_leaves_the_base() -> None:
    assert merged("dare_linear", F4, BASE, density=0) == BASE


def test_equal_differences_under_other_digests_are_dropped_independently() -> None:
    model = [1.0] * 4096
    base, parameters = {"w": [0.0] * 4096}, {"density": "0.5"}
    first, second = (
        merge("dare_linear", [Contribution(name, {"w": model})], base, parameters=parameters)["w"] != 0
        for name in "AB"
    )
    both = int((first & second).count_nonzero())
    assert abs(both - 1024) < 5 * math.sqrt(4096 * 0.25 * 0.75)


def test_tensors_of_one_shape_are_dropped_independently() -> None:
    model = {"a": [1.0] * 4096, "b": [1.0] * 4096}
    zero = {"a": [0.0] * 4096, "b": [0.0] * 4096}
    result = merge("della", [Contribution("A", model)], zero, parameters={"density": "0.5", "epsilon": "0"})
    both = int(((result["a"] != 0) & (result["b"] != 0)).count_nonzero())
    assert abs(both - 1024) < 5 * math.sqrt(4096 * 0.25 * 0.75)


def test_small_elements_stay_less_often_and_expectations_are_kept() -> None:
    rows, columns = 4096, 4
    model = [float(j + 1) for _ in range(rows) for j in range(columns)]
    given = [Contribution("A", {"w": model})]
    parameters = {"density": "0.5", "epsilon": "0.25"}
    result = merge(
        "della", given, {"w": [0.0] * len(model)}, shapes={"w": (rows, columns)}, parameters=parameters
    )
    kept = (result["w"].reshape(rows, columns) != 0).double()
    for j, q in enumerate((1 / 4, 5 / 12, 7 / 12, 3 / 4)):
        count = int(kept[:, j].sum())
        assert abs(count - rows * q) < 5 * math.sqrt(rows * q * (1 - q))
        (value,) = {x for x in result["w"].reshape(rows, columns)[:, j].tolist() if x}
        assert value == pytest.approx((j + 1) / q)


def test_l1_rescaling_restores_each_contributions_norm_in_each_tensor() -> None:
    model = {"a": [1.0, -2.0] * 64, "b": [5.0] * 64}
    zero = {"a": [0.0] * 128, "b": [0.0] * 64}
    for name in ("dare_linear", "della_linear"):
        result = merge(name, [Contribution("A", model)], zero, parameters={"density": "0.5"}, widths=(7, 50))
        assert result["a"].abs().sum().item() == pytest.approx(192)
        assert result["b"].abs().sum().item() == pytest.approx(320)


def test_where_rows_are_cut_never_shows() -> None:
    model = [float(j % 7 - 3) / 4 for j in range(120)]
    for name, rescale in (("della", "inv_prob"), ("della_linear", "l1")):
        cut, whole = (
            merge(
                name,
                [Contribution("A", {"w": model}), Contribution("B", {"w": model[::-1]})],
                {"w": [0.0] * 120},
                widths=widths,
                shapes={"w": (20, 6)},
                parameters={"rescale": rescale},
            )["w"].tolist()
            for widths in ((6, 18, 30), (1 << 16,))
        )
        assert cut == whole


NUMBERS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), st.floats(-100, 100, width=16))


@given(st.data(), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_della_is_its_reference_to_the_bit(
    data: st.DataObject, columns: int, height: int, count: int
) -> None:
    row = st.lists(NUMBERS, min_size=columns * height, max_size=columns * height)
    base, *rows = data.draw(st.lists(row, min_size=count + 1, max_size=count + 1))
    weights = data.draw(
        st.lists(st.sampled_from([Fraction(1), Fraction(2, 5)]), min_size=count, max_size=count)
    )
    density, epsilon = Fraction("0.6"), Fraction("0.35")
    contributions = [
        Contribution(chr(65 + i), {"w": r}, w) for i, (r, w) in enumerate(zip(rows, weights, strict=True))
    ]
    parameters = {"density": "0.6", "epsilon": "0.35"}
    found = find("della")
    arguments = found.read(tuple(parameters.items()))
    written = canon.encode([[key, str(value)] for key, value in sorted(arguments.items())])
    keys = [arith.draw.key(SEED, "della", 1, written, c.key, "w") for c in contributions]
    expected = slow.della(base, rows, weights, keys, columns, density, epsilon)
    result = merge(
        "della", contributions, {"w": base}, shapes={"w": (height, columns)}, parameters=parameters
    )["w"]
    assert struct.pack(f"<{len(base)}d", *result.tolist()) == struct.pack(f"<{len(base)}d", *expected)
