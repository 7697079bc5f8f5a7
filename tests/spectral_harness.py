"""Matrices as contributions, whole and as factors of low rank, for the tests of matrix methods."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from strategies_harness import Contribution, merge

from crdtmerge.arith import Tensor
from crdtmerge.coefficients import Coefficients
from crdtmerge.recipe import Given
from crdtmerge.strategy import Factors

Values: TypeAlias = Any
"""Whatever numpy takes for numbers; nested lists of whole and other numbers have no narrower type."""


def near(expected: Values, rel: float = 1e-7) -> object:
    wanted = np.asarray(expected, dtype=float)
    return pytest.approx(wanted, rel=rel, abs=rel * max(np.abs(wanted).max(), 1e-300))


def numbers(values: Values) -> Tensor:
    return torch.as_tensor(np.array(values, dtype=float))


def contributions(
    rows: Sequence[Values], weights: Sequence[int | str] | None = None, names: str = "ABCDEFG"
) -> list[Contribution]:
    """Differences as contributions A, B, C, … of the tensor w."""
    return [
        Contribution(name, {"w": numbers(row)}, Fraction(weights[i] if weights else 1), is_delta=True)
        for i, (name, row) in enumerate(zip(names, rows, strict=False))
    ]


def low(rows: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> list[Contribution]:
    """Products B·A, with their factors, twice as large as these say."""
    return [
        Contribution(
            name,
            {"w": numbers(2.0 * b @ a)},
            is_delta=True,
            factors={"w": Factors(numbers(a), numbers(b), Fraction(2))},
        )
        for name, (b, a) in zip("ABCDEFG", rows, strict=False)
    ]


def merged(
    strategy: str,
    given: Sequence[Values],
    base: Values = None,
    weights: Sequence[int | str] | None = None,
    coefficients: Coefficients | None = None,
    **parameters: Given,
) -> NDArray[np.float64]:
    """Merge differences of one tensor; ``inner_`` in a parameter's name stands for ``inner.``."""
    ready = [c for c in given if isinstance(c, Contribution)]
    ready = ready or contributions([row for row in given if not isinstance(row, Contribution)], weights)
    first = ready[0].tensors["w"]
    assert isinstance(first, Tensor)
    start = first * 0 if base is None else numbers(base)
    result = merge(
        strategy,
        ready,
        {"w": start},
        shapes={"w": tuple(start.shape)},
        parameters={name.replace("inner_", "inner."): value for name, value in parameters.items()},
        coefficients=coefficients,
    )
    return np.asarray(result["w"].reshape(start.shape).numpy())


def normal(seed: int, *shape: int) -> NDArray[np.float64]:
    """Numbers without structure."""
    return np.random.default_rng(seed).normal(size=shape)


F4 = [[[0.5, 0], [-1, 0.25]], [[1, -1], [0.5, -0.5]], [[-0.25, 0.5], [-2, 0]]]
F4_BASE = [[1.0, 2.0], [3.0, 4.0]]
"""The catalogue's fixture as matrices: differences from the base."""
