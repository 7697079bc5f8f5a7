"""Published weights, looked up one element at a time as docs/spec/formats.md says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

Rows = Sequence[Sequence[float]]


def weight(
    granularity: str,
    arrays: Mapping[str, Rows],
    shapes: Mapping[str, tuple[int, ...]],
    tensor: str,
    index: int,
    member: int,
) -> float | None:
    """The number that multiplies element ``index`` of a tensor of a member; None where none is published."""
    if granularity == "model":
        return arrays["weights"][member][0]
    names = sorted(shapes)
    if granularity == "tensor":
        return arrays["weights"][member][names.index(tensor)]
    if granularity == "interval":
        flat = sum(math.prod(shapes[name]) for name in names if name < tensor) + index
        (breaks,) = arrays["breaks"]
        return arrays["weights"][member][sum(at <= flat for at in breaks)]
    array = about(arrays, "weights", tensor)
    if array is None:
        return None
    row = arrays[array][member]
    if granularity == "chunk":
        return row[index // math.ceil(math.prod(shapes[tensor]) / len(row))]
    return row[index % len(row)]


def about(arrays: Mapping[str, Rows], what: str, tensor: str) -> str | None:
    """The array that speaks of a tensor: by its name, else by the longest pattern, else by the lowest."""
    if f"{what}/{tensor}" in arrays:
        return f"{what}/{tensor}"
    patterns = [name.partition("/")[2] for name in arrays if name.startswith(f"{what}/")]
    matching = [p for p in patterns if set(p) & set("*?[") and fnmatchcase(tensor, p)]
    return f"{what}/{min(matching, key=lambda p: (-len(p), p.encode()))}" if matching else None
