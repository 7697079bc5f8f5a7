"""Robust rules: the catalogue's examples, the bounds on hostile contributions, and what an enemy tries."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import Contribution, merge

from crdtmerge.errors import MissingBaseError, ParameterError
from crdtmerge.recipe import Given

P5 = [(0, 0), (1, 0), (0, 1), (1, 1), (10, -10)]
NEAR = [(0, 0), (1, 0), (0, 1), (0.5, 0.5), (10, -10)]
ORIGIN = [0.0, 0.0]
RULES: dict[str, dict[str, Given]] = {
    "median": {},
    "trimmed_mean": {"b": 2},
    "krum": {"f": 2},
    "multi_krum": {"f": 2},
    "bulyan": {"f": 1},
    "geometric_median": {"steps": 64},  # the further an enemy goes, the more steps it takes
    "centered_clipping": {},
    "norm_clipped_mean": {},
    "robust": {"f": 2},
}


def at(
    strategy: str, points: Sequence[Sequence[float]], base: list[float] | None = None, **p: Given
) -> list[float]:
    rows = [Contribution(chr(65 + i), {"w": list(map(float, point))}) for i, point in enumerate(points)]
    return merge(strategy, rows, None if base is None else {"w": base}, parameters=p)["w"].tolist()


def test_median_of_the_catalogue() -> None:
    assert at("median", P5) == [1, 0]
    assert at("median", P5[:4]) == [0.5, 0.5]
    assert at("median", P5[:4], even="lower") == [0, 0]
    assert at("median", P5[:4], even="upper") == [1, 1]


def test_trimmed_mean_of_the_catalogue() -> None:
    assert at("trimmed_mean", P5, b=1) == [2 / 3, 1 / 3]


def test_krum_of_the_catalogue() -> None:
    assert at("krum", NEAR, f=1) == [0.5, 0.5]


def test_multi_krum_breaks_the_catalogues_triple_tie_by_digest() -> None:
    assert at("multi_krum", NEAR, f=1, m=2) == [0.25, 0.25]  # (0.5, 0.5), then the first of three equals
    with pytest.raises(ParameterError, match="m is between 1 and 2"):
        at("multi_krum", NEAR, f=1, m=3)
    # The catalogue averages three of five with f = 1; that many are allowed with f = 0.
    scores = at("multi_krum", NEAR, f=0, m=3)
    assert scores == [0.5, pytest.approx(1 / 6)]


def test_geometric_median_of_the_catalogue() -> None:
    points = [(0, 0), (2, 0), (1, 3)]
    assert at("geometric_median", points, steps=0) == [1, 1]
    for steps, y in ((1, 0.7836116), (4, 0.5925590), (64, 0.5773503)):
        found = at("geometric_median", points, steps=steps)
        assert found == pytest.approx([1, y], abs=5e-8)


def test_bulyan_of_the_catalogue() -> None:
    assert at("bulyan", [(0,), (1,), (2,), (3,), (4,), (5,), (100,)], f=1) == [2]


def test_norm_clipped_mean_of_the_catalogue() -> None:
    points = [(3, 4), (0, 1), (0, -30)]
    assert at("norm_clipped_mean", points, ORIGIN, radius=5) == pytest.approx([1, 0], abs=1e-15)


def test_centered_clipping_of_the_catalogue() -> None:
    points = [(3, 4), (0, 1), (0, -30)]
    once = at("centered_clipping", points, ORIGIN, radius=1, steps=1, start="base")
    assert once == pytest.approx([0.2, 0.8 / 3], abs=1e-15)
    twice = at("centered_clipping", points, ORIGIN, radius=1, steps=2, start="base")
    assert twice == pytest.approx([0.3311307, 0.4444517], abs=5e-8)


@pytest.mark.parametrize("rule", RULES)
def test_a_hostile_contribution_moves_the_result_no_further_however_far_it_goes(rule: str) -> None:
    honest = [(0.9, 1.0), (1.0, 1.1), (1.1, 0.9), (1.0, 1.0), (1.05, 0.95), (0.95, 1.05)]
    for height in (1e3, 1e9, 1e15):
        x, y = at(rule, [*honest, (height, -height)], ORIGIN, **RULES[rule])
        assert abs(x - 1) < 0.6
        assert abs(y - 1) < 0.6
    assert abs(at("weight_average", [*honest, (1e3, -1e3)])[0] - 1) > 100


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "krum", "multi_krum", "bulyan", "robust"])
def test_a_contribution_cannot_buy_influence_by_its_weight(rule: str) -> None:
    rows = [Contribution(chr(65 + i), {"w": [float(i)]}, Fraction(1 + i)) for i in range(7)]
    with pytest.raises(ParameterError, match="no place for weights"):
        merge(rule, rows, {"w": [0.0]})


@pytest.mark.parametrize(("rule", "f", "least"), [("krum", 1, 5), ("multi_krum", 2, 7), ("bulyan", 1, 7)])
def test_too_few_contributions_for_f_are_an_error_that_says_how_many(rule: str, f: int, least: int) -> None:
    points = [(float(i),) for i in range(least)]
    assert at(rule, points, f=f)
    with pytest.raises(ParameterError, match=f"at least {least} contributions, there are {least - 1}"):
        at(rule, points[:-1], f=f)


def test_trimming_everything_is_an_error() -> None:
    with pytest.raises(ParameterError, match="at least 5 contributions"):
        at("trimmed_mean", P5[:4], b=2)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=5, max_size=7, unique=True))
def test_krum_scores_are_those_of_the_definition(points: list[tuple[int, int]]) -> None:
    f = (len(points) - 3) // 2

    def score(i: int) -> int:
        x, y = points[i]
        distances = sorted((x - a) ** 2 + (y - b) ** 2 for j, (a, b) in enumerate(points) if j != i)
        return sum(distances[: len(points) - f - 2])

    best = min(range(len(points)), key=lambda i: (score(i), i))
    assert at("krum", points) == list(points[best])


@given(st.lists(st.lists(st.integers(-99, 99), min_size=2, max_size=2), min_size=1, max_size=6))
def test_coordinate_rules_are_those_of_the_definition(points: list[list[int]]) -> None:
    columns = [sorted(column) for column in zip(*points, strict=True)]
    count = len(points)
    wanted = [(column[(count - 1) // 2] + column[count // 2]) / 2 for column in columns]
    assert at("median", points) == wanted
    b = count // 4
    assert at("trimmed_mean", points) == pytest.approx(
        [sum(c[b : count - b]) / (count - 2 * b) for c in columns]
    )


def test_equal_contributions_come_out_unchanged() -> None:
    points = [(0.1, -0.7)] * 7
    for rule, parameters in RULES.items():
        assert at(rule, points, [0.3, 0.3], **parameters) == pytest.approx([0.1, -0.7], abs=1e-15), rule


def test_distances_run_over_the_whole_model() -> None:
    rows = [{"a": [float(i)], "b": [0.0]} for i in range(4)] + [{"a": [1.5], "b": [50.0]}]
    contributions = [Contribution(chr(65 + i), row) for i, row in enumerate(rows)]
    chosen = merge("krum", contributions, parameters={"f": 1})
    # By "a" alone the last one is the most central; what it does in "b" disqualifies it.
    assert chosen["b"].tolist() == [0.0]
    alone = merge(
        "krum", [Contribution(c.name, {"a": c.tensors["a"]}) for c in contributions], parameters={"f": 1}
    )
    assert alone["a"].tolist() == [1.5]


# -- a rule, then a method --------------------------------------------------------------------------------


def test_a_rule_leaves_a_method_exactly_what_it_would_have_alone() -> None:
    base = [0.0, 0.0]
    honest = [(1.0, 0.5), (1.5, -0.25), (1.25, 0.75)]
    for inner in ("ties", "task_arithmetic", "dare_ties", "weight_average", "slerp"):
        for hostile in permutations([(90.0, 90.0), (-500.0, 80.0)]):
            kept = at("robust", [*honest, *hostile], base, rule="krum", f=0, m=3, inner=inner)
            wanted = at(inner, honest, base)
            if inner != "dare_ties":  # draws belong to the strategy that draws
                assert kept == wanted, inner


def test_the_inner_strategys_parameters_are_read_and_refused_as_its_own() -> None:
    points = [(1.0, 4.0), (2.0, 3.0), (3.0, 1.0)]
    given_ = at(
        "robust", points, ORIGIN, rule="clip", radius=99, inner="task_arithmetic", **{"inner.scale": 1}
    )
    assert given_ == at("task_arithmetic", points, ORIGIN, scale=1)
    with pytest.raises(ParameterError, match="task_arithmetic has no parameter 'density'"):
        at("robust", points, ORIGIN, inner="task_arithmetic", **{"inner.density": 1})
    with pytest.raises(ParameterError, match=r"has no parameter 'outer\.scale'"):
        at("robust", points, ORIGIN, **{"outer.scale": 1})


def test_clipping_before_a_method_bounds_what_it_sees() -> None:
    points = [(3.0, 4.0), (0.0, 1.0), (0.0, -30.0)]
    cut = at("robust", points, ORIGIN, rule="clip", radius=5, inner="task_arithmetic", **{"inner.scale": 1})
    assert cut == pytest.approx([3.0, 0.0], abs=1e-14)


def test_clipping_without_a_base_is_an_error() -> None:
    with pytest.raises(MissingBaseError):
        at("robust", P5, rule="clip")
    with pytest.raises(MissingBaseError):
        at("centered_clipping", P5, start="base")
