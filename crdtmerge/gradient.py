"""Parameters that change along the layers: a few stops, and straight lines between them.

    scale = [0.2, 0.5, 1]        layer 0 ── 0.2 … middle ── 0.5 … last ── 1

A recipe may give a list of numbers for a parameter. The place of a tensor is the index of its layer over the
index of the last, exact; what belongs to no layer (embeddings, a final norm, a head) has place 0. Name such
tensors in a rule of their own if they should have something else.

Source: mergekit's parameter gradients, which place the tensors before the layers at 0 and those behind at 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, Final

from crdtmerge.errors import ParameterError
from crdtmerge.recipe import Parameter

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers?|h|blocks?|resblocks|stages?)\.(\d+)(?=\.|$)")


def places(names: Iterable[str]) -> dict[str, Fraction]:
    """Return the place between 0 and 1 of each tensor in its stack of layers.

    A layer is a whole number behind ``layers``, ``layer``, ``h``, ``block``, ``blocks``, ``resblocks``,
    ``stage`` or ``stages``, the first that a name has; what is before it names the stack.
    """
    layers: dict[str, tuple[str, int]] = {}
    last: dict[str, int] = {}
    placed: dict[str, Fraction] = {}
    for name in names:
        placed[name] = Fraction(0)
        if match := _LAYER.search(name):
            stack, index = layers[name] = name[: match.start(1)], int(match[1])
            last[stack] = max(last.get(stack, 0), index)
    return placed | {name: Fraction(index, last[stack] or 1) for name, (stack, index) in layers.items()}


def at(parameters: Sequence[tuple[str, Parameter]], place: Fraction) -> tuple[tuple[str, Any], ...]:
    """Return the parameters of a place: every list becomes one exact number."""
    return tuple((name, _value(name, value, place)) for name, value in parameters)


def varies(parameters: Sequence[tuple[str, Parameter]]) -> bool:
    """Whether some parameter is a list."""
    return any(isinstance(value, tuple) for _, value in parameters)


def ends(parameters: Sequence[tuple[str, Parameter]]) -> list[tuple[tuple[str, Any], ...]]:
    """Return the parameters at all stops, where each list takes its extreme values."""
    stops = max((len(value) for _, value in parameters if isinstance(value, tuple)), default=1)
    return [tuple((name, _stop(value, i)) for name, value in parameters) for i in range(stops)]


def _stop(value: Parameter, index: int) -> Any:
    return value[min(index, len(value) - 1)] if isinstance(value, tuple) else value


def _value(name: str, value: Parameter, place: Fraction) -> Any:
    if not isinstance(value, tuple):
        return value
    if len(value) < 2:
        raise ParameterError(f"{name}: a gradient has at least two numbers, got {list(value)}")
    position = place * (len(value) - 1)
    index = min(int(position), len(value) - 2)
    low, high = Fraction(value[index]), Fraction(value[index + 1])
    return low + (high - low) * (position - index)
