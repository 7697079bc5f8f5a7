"""Coefficients as published: the catalogue's examples, every granularity, and the initial points."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, Contribution, merge, merged, published

from crdtmerge.arith import Tensor
from crdtmerge.coefficients import Coefficients
from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.recipe import Given, Recipe
from crdtmerge.resolve import Payload
from crdtmerge.resolve import merge as resolve
from crdtmerge.strategy import find
from reference import coefficients as reference
from reference.strategies import disjoint, elect, trim

SHAPES = {"a": (2, 3), "b": (5,), "c": ()}
SIZES = {"a": 6, "b": 5, "c": 1}


def rows(*values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def one(strategy: str, found: Coefficients | None, **parameters: Given) -> list[float]:
    """Merge the fixture as contributions A, B, C of a single tensor w."""
    given = [Contribution(name, {"w": row}) for name, row in zip("ABC", F4, strict=True)]
    return merge(strategy, given, {"w": BASE}, parameters=parameters, coefficients=found)["w"].tolist()


def by_model(strategy: str, *weights: float, **settings: str) -> Coefficients:
    return published(strategy, {"weights": torch.tensor(weights).double()}, {"w": (4,)}, 3, **settings)


# -- ada_merging and metagpt --------------------------------------------------------------------------


def test_task_wise_coefficients_give_the_catalogues_example() -> None:
    assert one("ada_merging", by_model("ada_merging", 0.5, 0.25, 1)) == [1.25, 2.25, 0.625, 4.0]


def test_without_coefficients_the_initial_point_is_used() -> None:
    assert one("ada_merging", None) == pytest.approx([1.375, 1.85, 2.25, 3.925], rel=1e-15)
    assert one("ada_merging", None, initial="0.5") == [1.625, 1.75, 1.75, 3.875]


def test_ada_merging_plusplus_gives_the_catalogues_example() -> None:
    found = by_model("ada_merging", 0.5, 0.25, 1)
    assert one("ada_merging", found, plusplus=True, density="0.5") == [1.5, 1.75, 0.5, 4.0]


@given(st.lists(st.lists(st.integers(-9, 9).map(float), min_size=6, max_size=6), min_size=1, max_size=4))
def test_plusplus_takes_of_each_difference_what_ties_selects(deltas: list[list[float]]) -> None:
    trimmed = [trim(tau, Fraction(1, 2)) for tau in deltas]
    elected = elect(trimmed, [Fraction(1)] * len(deltas), "majority")
    alone = [disjoint([tau], [Fraction(1)], elected, "sum") for tau in trimmed]
    given_ = [Contribution(chr(65 + i), {"w": tau}) for i, tau in enumerate(deltas)]
    parameters: dict[str, Given] = {"plusplus": True, "density": "0.5", "initial": "1"}
    got = merge("ada_merging", given_, {"w": [0.0] * 6}, parameters=parameters)["w"].tolist()
    assert got == [sum(column) for column in zip(*alone, strict=True)]


def test_clamping_confines_what_is_published() -> None:
    found = by_model("ada_merging", 7, -1, 0.5)
    wanted = one("ada_merging", by_model("ada_merging", 1, 0, 0.5))
    assert one("ada_merging", found, clamped=True) == wanted != one("ada_merging", found)


def test_coefficients_of_another_strategy_are_not_applied() -> None:
    assert one("ada_merging", by_model("dam", 9, 9, 9, mode="linear")) == one("ada_merging", None)


def test_metagpt_gives_the_catalogues_shares() -> None:
    shares = [0.161538, 0.307692, 0.530769]
    deltas = [[x - b for x, b in zip(row, BASE, strict=True)] for row in F4]
    wanted = [b + sum(s * d[i] for s, d in zip(shares, deltas, strict=True)) for i, b in enumerate(BASE)]
    assert merged("metagpt", F4, BASE) == pytest.approx(wanted, abs=1e-5)


def test_metagpt_of_one_contribution_is_that_contribution() -> None:
    assert merged("metagpt", F4[:1], BASE) == F4[0]


def test_metagpt_by_tensor_weighs_every_tensor_by_itself() -> None:
    given_ = [
        Contribution("A", {"u": [1.0], "v": [0.0, 1.0]}),
        Contribution("B", {"u": [2.0], "v": [1.0, 0.0]}),
    ]
    base = {"u": [0.0], "v": [0.0, 0.0]}
    by_tensor = merge("metagpt", given_, base, parameters={"scope": "tensor"})
    assert by_tensor["u"].tolist() == [pytest.approx(1 / 5 + 8 / 5, rel=1e-15)]
    assert by_tensor["v"].tolist() == [0.5, 0.5]
    whole = merge("metagpt", given_, base)
    assert whole["v"].tolist() == [pytest.approx(5 / 7, rel=1e-15), pytest.approx(2 / 7, rel=1e-15)]


@pytest.mark.parametrize("strategy", ["metagpt", "ada_merging", "published_coefficients"])
def test_where_nothing_changed_the_base_comes_out(strategy: str) -> None:
    assert merged(strategy, [BASE, BASE], BASE) == BASE


# -- dam ----------------------------------------------------------------------------------------------

W = [{"w": rows([1, 2], [3, 4])}, {"w": rows([0, 1], [1, 0])}]


def columns(*weights: Sequence[float], **settings: str) -> Payload:
    granular = {"granularity": "column", "mode": "linear"} | settings
    return Payload("dam", "coeffs", {"weights/w": rows(*weights)}, granular)


def test_dam_scales_columns_as_in_the_catalogues_example() -> None:
    got = resolve(W, recipe=Recipe("dam"), coefficients=columns([0.5, 1], [0.5, -1]))
    assert got["w"].tolist() == [[0.5, 1], [2, 4]]


def test_dam_without_coefficients_is_the_mean() -> None:
    assert resolve(W, recipe=Recipe("dam"))["w"].tolist() == [[0.5, 1.5], [2, 2]]


@pytest.mark.parametrize(
    ("squash", "through"), [("relu", lambda x: max(x, 0.0)), ("tanh", None), ("sigmoid", None)]
)
def test_dam_squashes_what_is_published_if_asked(squash: str, through: object) -> None:
    arrays = {"weights": torch.tensor([2.0, -3.0], dtype=torch.float64)}
    payload = Payload("dam", "coeffs", arrays, {"mode": "linear"})
    got = resolve(W, recipe=Recipe("dam", squash=squash), coefficients=payload)["w"]
    function = torch.relu if through else getattr(torch, squash)
    factors = function(arrays["weights"])
    assert torch.allclose(got, factors[0] * W[0]["w"] + factors[1] * W[1]["w"], rtol=1e-14, atol=0)


# -- every granularity --------------------------------------------------------------------------------

NUMBERS = st.integers(-8, 8).map(lambda x: x / 4)


@st.composite
def payloads(draw: st.DrawFn) -> tuple[str, dict[str, list[list[float]]], int]:
    """A granularity, its arrays and the number of contributions."""
    k = draw(st.integers(1, 3))
    granularity = draw(st.sampled_from(["model", "group", "tensor", "chunk", "column", "interval"]))

    def array(width: int) -> list[list[float]]:
        return [[draw(NUMBERS) for _ in range(width)] for _ in range(k)]

    if granularity == "model":
        return granularity, {"weights": array(1)}, k
    if granularity == "tensor":
        return granularity, {"weights": array(3)}, k
    if granularity == "interval":
        breaks = sorted(draw(st.sets(st.integers(1, 11), min_size=1, max_size=4)))
        return granularity, {"breaks": [[float(b) for b in breaks]], "weights": array(len(breaks) + 1)}, k
    if granularity == "group":
        names = draw(st.sampled_from([["*"], ["a", "*"], ["[ab]"], ["?", "[abc]"], ["a", "b", "c"], ["b"]]))
        names = names if names != ["?", "[abc]"] else ["[abc]"]
        return granularity, {f"weights/{name}": array(1) for name in names}, k
    if granularity == "chunk":
        wide = {"a": draw(st.sampled_from([1, 2, 3, 6])), "b": draw(st.sampled_from([1, 2, 3, 5]))}
    else:
        wide = {"a": draw(st.sampled_from([1, 3])), "b": draw(st.sampled_from([1, 5])), "c": 1}
    chosen = draw(st.sets(st.sampled_from(sorted(wide)), min_size=1))
    return granularity, {f"weights/{name}": array(wide[name]) for name in sorted(chosen)}, k


def as_tensor(name: str, values: list[list[float]], granularity: str) -> Tensor:
    array = torch.tensor(values, dtype=torch.float64)
    flat = name == "breaks" or granularity in ("model", "group")
    return array.reshape(-1) if flat else array


@given(
    payloads(),
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.sampled_from(["task_vector", "linear"]),
)
def test_every_element_gets_the_number_that_the_format_says_wherever_tiles_are_cut(
    made: tuple[str, dict[str, list[list[float]]], int], widths: list[int], mode: str
) -> None:
    granularity, arrays, k = made
    found = published(
        "published_coefficients",
        {name: as_tensor(name, values, granularity) for name, values in arrays.items()},
        SHAPES,
        k,
        granularity=granularity,
        mode=mode,
    )
    models = [
        {n: [float((i + 2) * (j + 1) % 7 - 3) for j in range(size)] for n, size in SIZES.items()}
        for i in range(k)
    ]
    base = {n: [float(j) for j in range(size)] for n, size in SIZES.items()}
    given_ = [Contribution(chr(65 + i), values) for i, values in enumerate(models)]
    got = merge("published_coefficients", given_, base, widths=widths, shapes=SHAPES, coefficients=found)
    for name, size in SIZES.items():
        wanted = []
        for j in range(size):
            looked_up = [reference.weight(granularity, arrays, SHAPES, name, j, i) for i in range(k)]
            by = [1 / k if c is None else c for c in looked_up]
            origin = base[name][j] if mode == "task_vector" else 0.0
            total = by[0] * (models[0][name][j] - origin)
            for i in range(1, k):
                total += by[i] * (models[i][name][j] - origin)
            wanted.append(origin + total if mode == "task_vector" else total)
        assert got[name].tolist() == wanted


# -- masks --------------------------------------------------------------------------------------------


def packed(bits: Sequence[int]) -> Tensor:
    octets = [sum(bit << i for i, bit in enumerate(bits[n : n + 8])) for n in range(0, len(bits), 8)]
    return torch.tensor(octets, dtype=torch.uint8)


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=21, max_size=21), min_size=2, max_size=2),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_masks_keep_what_their_bits_or_numbers_say(
    bits: list[list[int]], shared: bool, real: bool, widths: list[int]
) -> None:
    kept = bits[:1] if shared else bits
    mask = torch.tensor(kept).double() if real else torch.stack([packed(row) for row in kept])
    settings = {"form": "real" if real else "bits", "shared": "yes" if shared else "no"}
    arrays = {"masks/w": mask[0] if shared else mask, "weights": torch.tensor([2.0, 3.0]).double()}
    found = published("published_coefficients", arrays, {"w": (21,)}, 2, "masks", **settings)
    given_ = [Contribution("A", {"w": [1.0] * 21}), Contribution("B", {"w": [10.0] * 21})]
    base = {"w": [0.0] * 21}
    got = merge("published_coefficients", given_, base, widths=widths, coefficients=found)["w"].tolist()
    other = bits[0] if shared else bits[1]
    assert got == [2.0 * a + 30.0 * b for a, b in zip(bits[0], other, strict=True)]


# -- what a strategy cannot apply ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "mode"), [("ada_merging", "convex"), ("ada_merging", "linear"), ("dam", "task_vector")]
)
def test_weights_of_a_mode_that_the_method_does_not_have_are_no_coefficients_for_it(
    strategy: str, mode: str
) -> None:
    found = by_model(strategy, 0.5, 0.25, 0.25, mode=mode)
    suits = find(strategy).suits
    assert suits is not None
    with pytest.raises(MalformedError, match="of mode"):
        suits(found, **find(strategy).read(()))


def test_masked_models_are_no_coefficients() -> None:
    arrays = {"masks/w": torch.ones(3, 4).double()}
    settings = {"form": "real", "mode": "linear"}
    payload = Payload("published_coefficients", "masks", arrays, settings)
    models = [{"w": torch.tensor(row).double()} for row in F4]
    with pytest.raises(ParameterError, match="of mode linear"):
        resolve(models, base=models[0], recipe=Recipe("published_coefficients"), coefficients=payload)
