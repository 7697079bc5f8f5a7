"""Genomes and kernels: the catalogue's examples, layer groups, and genomes that no kernel can follow."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies_harness import BASE, F4, Contribution, merge, merged, published

from crdtmerge.arith import Tensor
from crdtmerge.coefficients import Coefficients
from crdtmerge.errors import MalformedError, ParameterError
from crdtmerge.recipe import Given, parameters_of
from crdtmerge.strategy import find
from reference.strategies import disjoint, elect, trim

CONTRIBUTIONS = [Contribution(name, {"w": row}) for name, row in zip("ABC", F4, strict=True)]
BOTH = pytest.mark.parametrize("strategy", ["evolutionary_merge", "genetic_merge"])


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def genome(
    strategy: str,
    kernel: str,
    genes: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    **settings: str,
) -> Coefficients:
    return published(strategy, genes, shapes or {"w": (4,)}, 3, "hyper", kernel=kernel, **settings)


def run(found: Coefficients | None, strategy: str = "evolutionary_merge", **parameters: Given) -> list[float]:
    written = {name.replace("kernel_", "kernel."): value for name, value in parameters.items()}
    return merge(strategy, CONTRIBUTIONS, {"w": BASE}, parameters=written, coefficients=found)["w"].tolist()


# -- examples -----------------------------------------------------------------------------------------


@BOTH
def test_a_genome_of_weights_steers_the_linear_kernel_as_in_the_catalogue(strategy: str) -> None:
    found = genome(strategy, "linear", {"weight/*": row(0.5, 0.25, 0.25), "density/*": row(1, 1, 1)})
    with pytest.raises(MalformedError, match="no gene 'density'"):
        check(found)
    found = genome(strategy, "linear", {"weight/*": row(0.5, 0.25, 0.25)})
    assert run(found, strategy) == [1.4375, 1.875, 2.125, 4.0]


@BOTH
def test_dare_ties_of_a_full_genome_is_ties_without_a_trim(strategy: str) -> None:
    found = genome(strategy, "dare_ties", {"weight/*": row(1, 1, 1), "density/*": row(1, 1, 1)})
    assert run(found, strategy, kernel="dare_ties", kernel_merge_func="sum") == [2.5, 1.0, 0.0, 3.5]


@BOTH
@pytest.mark.parametrize("kernel", ["linear", "task_arithmetic", "ties", "dare_ties", "dare", "slerp"])
def test_without_a_genome_every_kernel_starts_from_equal_weights_and_drops_nothing(
    strategy: str, kernel: str
) -> None:
    defaults: dict[str, dict[str, Given]] = {
        "linear": {},
        "task_arithmetic": {"scale": 1, "normalize": True},
        "ties": {"density": 1},
        "dare_ties": {"p": 0},
        "dare": {"p": 0},
    }
    got = run(None, strategy, kernel=kernel)
    if kernel == "slerp":  # of three equal weights the two lowest digests count
        assert got == pytest.approx(merged("slerp", F4[:2]), rel=1e-15)
    else:
        assert got == pytest.approx(merged(kernel, F4, BASE, None, **defaults[kernel]), rel=1e-15)


# -- decoding -----------------------------------------------------------------------------------------


def test_weights_count_by_magnitude_unless_negative_ones_are_allowed() -> None:
    genes = {"weight/*": row(-0.5, 0.25, 0.25)}
    assert run(genome("evolutionary_merge", "linear", genes)) == [1.4375, 1.875, 2.125, 4.0]
    signed = genome("evolutionary_merge", "task_arithmetic", {"weight/*": row(-1, 0, 0)}, negative="yes")
    assert run(signed, kernel="task_arithmetic") == [0.5, 2.0, 4.0, 3.75]


def test_tenths_of_a_discrete_genome_are_exact() -> None:
    found = genome("genetic_merge", "linear", {"weight/*": row(5, 3, 2)}, discrete="yes")
    weighted = merged("linear", F4, weights=["0.5", "0.3", "0.2"])
    assert run(found, "genetic_merge") == weighted


@given(
    st.lists(st.lists(st.integers(-9, 9).map(float), min_size=6, max_size=6), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=3, max_size=3),
)
def test_every_contribution_is_trimmed_to_its_own_density(
    deltas: list[list[float]], densities: list[float], weights: list[float]
) -> None:
    trimmed = [trim(tau, Fraction(d)) for tau, d in zip(deltas, densities, strict=True)]
    exact = [Fraction(w) for w in weights]
    wanted = disjoint(trimmed, exact, elect(trimmed, exact, "majority"), "sum")
    genes = {"weight/*": row(*weights), "density/*": row(*densities)}
    found = genome("evolutionary_merge", "ties", genes, {"w": (6,)})
    given_ = [Contribution(chr(65 + i), {"w": tau}) for i, tau in enumerate(deltas)]
    parameters: dict[str, Given] = {"kernel": "ties", "kernel.merge_func": "sum"}
    base = {"w": [0.0] * 6}
    got = merge("evolutionary_merge", given_, base, parameters=parameters, coefficients=found)
    assert got["w"].tolist() == wanted


def test_every_contribution_is_thinned_by_its_own_density() -> None:
    size, densities = 20_000, (0.0, 0.25, 1.0)
    models = [Contribution(n, {"w": [x] * size}) for n, x in zip("ABC", (1.0, 10.0, 100.0), strict=True)]
    genes = {"weight/*": row(1, 1, 1), "density/*": row(*densities)}
    found = genome("genetic_merge", "dare", genes, {"w": (size,)})
    got = merge(
        "genetic_merge", models, {"w": [0.0] * size}, parameters={"kernel": "dare"}, coefficients=found
    )["w"]
    assert set(got.tolist()) == {100.0, 140.0}
    kept = int((got == 140.0).count_nonzero())
    assert abs(kept - size / 4) < 5 * (size * 3 / 16) ** 0.5


def test_slerp_takes_the_two_heaviest_at_the_place_that_their_weights_say() -> None:
    found = genome("evolutionary_merge", "slerp", {"weight/*": row(0.75, 0, 0.25)})
    wanted = merged("slerp", [F4[0], F4[2]], weights=[3, 1])
    assert run(found, kernel="slerp") == wanted


# -- layer groups -------------------------------------------------------------------------------------


def test_every_layer_group_has_its_own_genes_and_what_no_gene_speaks_of_its_initial_point() -> None:
    shapes = {"head": (1,), "layers.0": (1,), "layers.1": (1,)}
    genes = {"weight/layers.*": row(1, 0, 0), "weight/layers.1": row(0, 1, 0)}
    found = genome("evolutionary_merge", "linear", genes, shapes)
    models = [
        Contribution(n, {name: [x] for name in shapes}) for n, x in zip("ABC", (3.0, 6.0, 9.0), strict=True)
    ]
    got = merge("evolutionary_merge", models, coefficients=found)
    assert {name: values.tolist() for name, values in got.items()} == {
        "head": [6.0],
        "layers.0": [3.0],
        "layers.1": [6.0],
    }


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_a_layer_group_is_trimmed_as_a_whole_wherever_tiles_are_cut(widths: list[int]) -> None:
    shapes = {"a": (3,), "b": (2,), "c": (3,)}
    deltas = {"a": [1.0, 5.0, 2.0], "b": [100.0, 1.0], "c": [3.0, 4.0, 0.5]}
    genes = {"weight/*": row(1, 1, 1), "density/[ac]": row(0.5, 0.5, 0.5)}
    found = genome("evolutionary_merge", "ties", genes, shapes)
    zeros = {name: [0.0] * len(values) for name, values in deltas.items()}
    models = [Contribution("A", deltas), Contribution("B", zeros), Contribution("C", zeros)]
    got = merge(
        "evolutionary_merge", models, zeros, widths=widths, parameters={"kernel": "ties"}, coefficients=found
    )
    assert got["b"].tolist() == deltas["b"]
    assert torch.cat([got["a"], got["c"]]).tolist() == [0.0, 5.0, 0.0, 3.0, 4.0, 0.0]


# -- what is passed over ------------------------------------------------------------------------------


def check(found: Coefficients, **parameters: Given) -> None:
    written = {name.replace("kernel_", "kernel."): value for name, value in parameters.items()}
    suits = find(found.strategy).suits
    assert suits is not None
    suits(found, **find(found.strategy).read(parameters_of(written)))


@BOTH
def test_a_genome_bred_for_another_kernel_does_not_suit(strategy: str) -> None:
    with pytest.raises(MalformedError, match=r"asks .* for the kernel ties"):
        check(genome(strategy, "linear", {"weight/*": row(1, 1, 1)}), kernel="ties")


@BOTH
@pytest.mark.parametrize("kernel", ["linear", "slerp"])
def test_weights_that_vanish_do_not_suit_a_kernel_that_divides_by_them(strategy: str, kernel: str) -> None:
    with pytest.raises(MalformedError, match=r"sum to 0|one must be positive"):
        check(genome(strategy, kernel, {"weight/*": row(0, 0, 0)}), kernel=kernel)


def test_a_genome_does_not_suit_a_recipe_that_fixes_the_place_on_the_arc() -> None:
    found = genome("evolutionary_merge", "slerp", {"weight/*": row(1, 2, 0)})
    with pytest.raises(MalformedError, match="fixes t"):
        check(found, kernel="slerp", kernel_t="0.5")


@pytest.mark.parametrize(
    ("genes", "discrete"), [((0.5, 0.5, 1.5), "no"), ((1, 2, 0.5), "yes"), ((1, 2, 11), "yes")]
)
def test_genes_outside_of_their_range_do_not_suit(genes: tuple[float, ...], discrete: str) -> None:
    with pytest.raises(MalformedError, match="a gene weight of"):
        check(genome("genetic_merge", "linear", {"weight/*": row(*genes)}, discrete=discrete))


@BOTH
def test_only_kernels_of_the_list_and_their_own_parameters_are_accepted(strategy: str) -> None:
    with pytest.raises(ParameterError, match="kernel is one of"):
        run(None, strategy, kernel="krum")
    with pytest.raises(ParameterError, match="no parameter 'density'"):
        run(None, strategy, kernel="linear", kernel_density="0.5")
