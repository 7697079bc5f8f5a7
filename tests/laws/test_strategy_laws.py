"""Laws that every installed strategy keeps, whoever wrote it.

The registry is the list: a strategy is tested by being registered.
"""

from __future__ import annotations

import contextlib
import inspect
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest
import strategies_harness
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies_harness import Contribution, Model, equipped

import crdtmerge.strategies
from crdtmerge import arith
from crdtmerge.arith import Tensor
from crdtmerge.dtypes import DType
from crdtmerge.errors import CrdtMergeError, ParameterError
from crdtmerge.strategy import Inner, Strategy, strategies

ALL = list(strategies().values())
SHAPES = {"a": (2, 4), "b": (5,), "c": ()}

every_strategy = pytest.mark.parametrize("strategy", ALL, ids=lambda s: f"{s.name}-{s.version}")

few = settings(max_examples=max((settings.default or settings()).max_examples // 4, 5))
"""A law is tried on some sixty strategies, so each has fewer examples than a law that stands alone."""

ORDINARY = st.floats(-8, 8, width=16)
WHOLE = st.integers(1, 9).map(float)
EXTREME = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308, 1.0]),
)


def models(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[dict[str, list[float]]]:
    sizes = {"a": 8, "b": 5, "c": 1}
    return st.fixed_dictionaries({n: st.lists(numbers, min_size=k, max_size=k) for n, k in sizes.items()})


def sets(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[Contribution]]:
    """One to four contributions, ascending by digest."""
    return st.lists(models(numbers), min_size=1, max_size=4).map(
        lambda rows: [Contribution(chr(65 + i), row) for i, row in enumerate(rows)]
    )


def merge(
    strategy: Strategy, contributions: Sequence[Contribution], base: Model, widths: Sequence[int] = (1 << 16,)
) -> bytes:
    ready = equipped(strategy, contributions, SHAPES)
    merged = strategies_harness.merge(strategy, ready, base, widths=widths, shapes=SHAPES)
    return b"".join(struct.pack(f"<{len(x)}d", *x.tolist()) for x in merged.values())


@every_strategy
@few
@given(data=st.data(), base=models(ORDINARY), contributions=sets(ORDINARY))
def test_arrival_order_and_duplicates_never_show(
    strategy: Strategy, data: st.DataObject, base: Model, contributions: list[Contribution]
) -> None:
    arrived = data.draw(st.permutations(contributions + contributions[:2]))
    assert merge(strategy, arrived, base) == merge(strategy, contributions, base)


@every_strategy
@few
@given(
    base=models(ORDINARY),
    contributions=sets(ORDINARY),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_where_tiles_are_cut_never_shows(
    strategy: Strategy, base: Model, contributions: list[Contribution], widths: list[int]
) -> None:
    if strategy.declared.scope == "element":
        assert merge(strategy, contributions, base, widths) == merge(strategy, contributions, base)
    else:
        # Such a strategy sees whole rows or tensors; what it may not do is remember the last merge.
        assert merge(strategy, contributions, base) == merge(strategy, contributions, base)


def same(x: dict[str, Tensor], y: dict[str, Tensor]) -> bool:
    return all(torch.equal(x[name].view(torch.int64), y[name].view(torch.int64)) for name in x | y)


def large() -> tuple[list[Contribution], dict[str, Tensor]]:
    """Tensors of several times the width of a lane sum, and not a multiple of it."""
    generator = torch.Generator().manual_seed(1)
    sizes = {"a": 2 * 2**14 + 5, "b": 999}

    def draw() -> dict[str, Tensor]:
        return {n: torch.randint(-99, 99, (k,), generator=generator).double() / 7 for n, k in sizes.items()}

    return [Contribution(name, draw()) for name in "ABC"], draw()


@every_strategy
def test_neither_cuts_at_odd_places_of_large_tensors_nor_threads_show(strategy: Strategy) -> None:
    contributions, base = large()
    contributions = equipped(strategy, contributions, {})

    def run(job: tuple[int, tuple[int, ...]]) -> dict[str, Tensor]:
        threads, widths = job
        torch.set_num_threads(threads)
        return strategies_harness.merge(strategy, contributions, base, widths=widths)

    whole = run((1, (1 << 20,)))
    with ThreadPoolExecutor(2) as pool:
        assert all(same(whole, other) for other in pool.map(run, [(3, (16383, 1, 16385, 77)), (2, (1000,))]))


@every_strategy
@few
@given(base=models(ORDINARY), model=models(ORDINARY))
def test_a_contribution_alone_is_itself_where_that_is_declared(
    strategy: Strategy, base: Model, model: Model
) -> None:
    assert not (strategy.alone_is_itself and strategy.declared.members_min > 1)
    merged = merge(strategy, [Contribution("A", model)], base)
    itself = b"".join(struct.pack(f"<{len(model[name])}d", *model[name]) for name in sorted(model))
    assert not strategy.alone_is_itself or merged == itself
    assert len(merged) == len(itself)


@every_strategy
@few
@given(base=models(EXTREME), contributions=sets(EXTREME))
def test_finite_numbers_give_finite_numbers_or_a_typed_error(
    strategy: Strategy, base: Model, contributions: list[Contribution]
) -> None:
    with contextlib.suppress(CrdtMergeError):
        ready = equipped(strategy, contributions, SHAPES)
        merged = strategies_harness.merge(strategy, ready, base, shapes=SHAPES)
        encoded = b"".join(arith.encode(x, DType.F64) for x in merged.values())
        assert arith.non_finite(encoded, DType.F64) is None


@every_strategy
@few
@given(base=models(WHOLE), rows=st.lists(models(WHOLE), min_size=2, max_size=4))
def test_which_contribution_has_which_digest_changes_no_value(
    strategy: Strategy, base: dict[str, list[float]], rows: list[dict[str, list[float]]]
) -> None:
    # Whole numbers, so that sums are exact in any order. Draws belong to digests, so they do move.
    def run(order: Sequence[dict[str, list[float]]]) -> Tensor:
        contributions = [Contribution(chr(65 + i), row) for i, row in enumerate(order)]
        ready = equipped(strategy, contributions, SHAPES)
        return torch.cat(list(strategies_harness.merge(strategy, ready, base, shapes=SHAPES).values()))

    if strategy.declared.draws or not strategy.symmetric:
        assert torch.equal(run(rows), run(rows))
    else:
        assert torch.allclose(run(rows), run(rows[::-1]), rtol=1e-9, atol=1e-9)


@every_strategy
def test_a_strategy_is_documented(strategy: Strategy) -> None:
    text = inspect.getdoc(strategy.function) or ""
    assert strategy.summary.endswith("."), f"{strategy.name}: the first line of the docstring is a sentence"
    for section in ("Determinism:", "Source:"):
        assert f"\n{section}" in text, f"{strategy.name}: the docstring lacks {section!r}"
    assert strategy.source.strip(), f"{strategy.name}: who invented it?"
    for spec in strategy.parameters:
        assert spec.doc.strip(), f"{strategy.name}: what is {spec.name}?"
        assert spec.default_text, f"{strategy.name}: what is {spec.name} if it is absent?"


@every_strategy
def test_defaults_are_accepted_when_written_out(strategy: Strategy) -> None:
    written = tuple((s.name, s.default_text) for s in strategy.parameters if s.default_text != "none")
    assert strategy.read(written) == strategy.read(())


@every_strategy
def test_weights_count_or_are_refused(strategy: Strategy) -> None:
    # Signs such that something is agreed on, and something is one contribution's alone.
    lines = [[1.0, 2.0, 4.0, -3.0], [2.0, -1.0, 1.0, 1.0], [4.0, 1.0, -1.0, -2.0]]
    rows = [row + row[::-1] + row[1:] + row[:1] for row in lines]  # as many rows as contributions
    base = {"w": [0.0] * 12}

    def run(*weights: int) -> list[float]:
        contributions = [
            Contribution(chr(65 + i), {"w": row}, Fraction(weight))
            for i, (row, weight) in enumerate(zip(rows, weights, strict=True))
        ]
        # Nothing may be dropped: what is dropped has no weight.
        parameters = {s.name: "1" for s in strategy.parameters if s.name == "density"}
        parameters |= {s.name: "0" for s in strategy.parameters if s.name == "p"}
        inner = [s.name for s in strategy.parameters if isinstance(s, Inner) and s.default == "ties"]
        parameters |= {f"{name}.density": "1" for name in inner}
        ready = equipped(strategy, contributions, {"w": (3, 4)})
        merged = strategies_harness.merge(strategy, ready, base, parameters=parameters, shapes={"w": (3, 4)})
        return merged["w"].tolist()

    if strategy.weighted:
        assert run(1, 1, 1) != run(1, 5, 2)
    else:
        assert run(1, 1, 1)
        with pytest.raises(ParameterError, match="weight"):
            run(1, 5, 2)


def test_every_family_is_imported_by_name() -> None:
    folder = Path(inspect.getfile(crdtmerge.strategies)).parent
    families = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert families == set(crdtmerge.strategies.__all__)


def test_the_strategies_of_the_catalogue_are_installed() -> None:
    names = {name for name, _ in strategies()}
    assert names >= {"weight_average", "linear", "slerp", "task_arithmetic", "ties", "dare", "dare_ties"}
