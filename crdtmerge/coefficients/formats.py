"""What a payload must look like: checked before it is published, and again before it is applied.

A check is a pure function of the payload and of the model's names and shapes, so every replica passes over
the same payloads. It looks at form alone; whether a strategy can do something with what is well-formed (its
kernel, its mode) is for the strategy to say. The rules are those of docs/spec/formats.md, in its order.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.limits import PATTERNS_MAX, PLAN_BYTES_MAX

from .artefact import Coefficients, columns

CONVEX_ERROR_MAX: Final = 1e-12
"""How far the sum of the weights of a convex combination may be from 1: what float64 leaves, not float32."""

FORMS: Final = ("bits", "real", "components")
"""Of masks: packed bits of elements; numbers for elements; zeros and ones of singular components."""

_AT_ONCE: Final = 1 << 20
"""Elements looked at together; bounds memory."""

_HEX: Final = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}")


def check(found: Coefficients) -> None:
    """Check a payload's form.

    Raises:
        MalformedError: naming the array or the setting at fault.
        LimitError: if it has too many patterns.
    """
    if not found.shapes:
        raise MalformedError("a payload without arrays")
    patterns = sum(not set("*?[").isdisjoint(name) for name in found.shapes)
    if patterns > PATTERNS_MAX:
        raise LimitError(f"{patterns} names with patterns, at most {PATTERNS_MAX} are accepted")
    _CHECKS[found.payload](found)


def _coeffs(found: Coefficients) -> None:
    _only(found, ("weights", "breaks"))
    _weights(found)


def _weights(found: Coefficients) -> None:
    granularity = found.granularity
    if ("breaks" in found) != (granularity == "interval"):
        raise MalformedError(f"granularity {granularity}: breaks belong to granularity interval alone")
    if granularity in _FITS:
        _covered(found, "weights")
        for name, shape in found.tensors:
            if (array := found.about("weights", name)) is not None:
                _FITS[granularity](found, array, name, shape)
    elif granularity == "interval":
        _intervals(found)
    else:
        _shape(found, "weights", (found.count, len(found.tensors))[: 1 + (granularity == "tensor")])
    if ("weights" in found) == (granularity in _FITS) or (
        granularity not in _FITS and _about(found, "weights")
    ):
        raise MalformedError(f"granularity {granularity} does not go with these arrays of weights")
    if found.mode == "convex":
        for name in found.shapes:
            if name.partition("/")[0] == "weights":
                _convex(found, name)


def _intervals(found: Coefficients) -> None:
    shape = found.shapes.get("breaks", ())
    if len(shape) != 1:
        raise MalformedError(f"granularity interval needs breaks of one dimension, got shape {list(shape)}")
    _shape(found, "weights", (found.count, shape[0] + 1))
    total = sum(math.prod(shape) for _, shape in found.tensors)
    before = 0.0
    for at in found.array("breaks").tolist():
        if not before < at < total or not float(at).is_integer():
            raise MalformedError(
                f"breaks are whole numbers that ascend between 0 and the model's {total} elements; "
                f"got {at!r} behind {before!r}"
            )
        before = at


def _group(found: Coefficients, array: str, tensor: str, shape: tuple[int, ...]) -> None:
    _shape(found, array, (found.count,))


def _chunks(found: Coefficients, array: str, tensor: str, shape: tuple[int, ...]) -> None:
    given = found.shapes[array]
    if len(given) != 2 or given[0] != found.count or not given[1]:
        raise MalformedError(f"{array} has shape {list(given)}, wanted [{found.count}, number of chunks]")
    elements, chunks = math.prod(shape), given[1]
    pieces = -(-elements // -(-elements // chunks)) if elements else 0
    if pieces != chunks:
        raise MalformedError(
            f"{array} has weights for {chunks} chunks, and {tensor} with its {elements} elements is cut "
            f"into {pieces}: the last ones would stay unused"
        )


def _columns(found: Coefficients, array: str, tensor: str, shape: tuple[int, ...]) -> None:
    given, wide = found.shapes[array], columns(shape)
    if given not in ((found.count, wide), (found.count, 1)):
        raise MalformedError(
            f"{array} has shape {list(given)}, wanted [{found.count}, {wide}] for the columns of {tensor}, "
            f"or [{found.count}, 1] for all of it"
        )


_FITS: Final[dict[str, Callable[[Coefficients, str, str, tuple[int, ...]], None]]] = {
    "group": _group,
    "chunk": _chunks,
    "column": _columns,
}


def _convex(found: Coefficients, name: str) -> None:
    rows = found.array(name).reshape(found.count, -1).tolist()
    for at, column in enumerate(zip(*rows, strict=True)):
        total = math.fsum(column)
        if abs(total - 1) > CONVEX_ERROR_MAX:
            raise MalformedError(
                f"{name} holds weights of a convex combination that sum to {total!r} in column {at}, not to "
                f"1 within {CONVEX_ERROR_MAX} (store them as float64)"
            )


def _masks(found: Coefficients) -> None:
    _only(found, ("masks", "weights", "breaks"))
    tensors, form = dict(found.tensors), found.setting("form", *FORMS)
    rows = () if found.setting("shared", "no", "yes") == "yes" else (found.count,)
    names = _about(found, "masks")
    if not names:
        raise MalformedError("a payload of masks without a mask")
    for name in names:
        shape = tensors.get(name.partition("/")[2])
        if shape is None:
            raise MalformedError(f"{name} is a mask for a tensor that the model does not have")
        elements = math.prod(shape)
        long = {
            "bits": -(-elements // 8),
            "real": elements,
            "components": min(shape[0], columns(shape)) if len(shape) > 1 else 0,
        }[form]
        _shape(found, name, (*rows, long))
        if (name in found.octets) == (form == "real"):
            raise MalformedError(f"{name}: masks of form {form} are {'floats' if form == 'real' else 'U8'}")
        if form == "bits":
            _bits(found, name, elements)
        else:
            _between_0_and_1(found, name)
    if "weights" in found or _about(found, "weights"):
        _weights(found)


def _between_0_and_1(found: Coefficients, name: str) -> None:
    size = math.prod(found.shapes[name])
    for start in range(0, size, _AT_ONCE):
        values = found.read(name, start, min(start + _AT_ONCE, size))
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise MalformedError(f"{name} holds numbers outside [0, 1]")


def _bits(found: Coefficients, name: str, elements: int) -> None:
    width = found.shapes[name][-1]
    for stop in range(width, math.prod(found.shapes[name]) + 1, width) if elements % 8 else ():
        if found.read(name, stop - 1, stop).item() >= 1 << elements % 8:
            raise MalformedError(f"{name} has bits behind the last of the tensor's {elements} elements")


def _hyper(found: Coefficients) -> None:
    names = {name.partition("/")[0] for name in found.shapes}
    for name in found.shapes:
        _shape(found, name, (found.count,))
    for parameter in sorted(names):
        _covered(found, parameter)


def _plan(found: Coefficients) -> None:
    _only(found, ("plan",))
    _shape(found, "plan", (found.shapes["plan"] or (0,))[:1])
    if "plan" not in found.octets or math.prod(found.shapes["plan"]) > PLAN_BYTES_MAX:
        raise MalformedError(f"a plan of layers is an array of bytes (U8), at most {PLAN_BYTES_MAX}")
    known = {name for name, _ in found.tensors}
    if not found.rows:
        raise MalformedError("a plan of layers without rows")
    for row in found.rows:
        if row.member >= found.count or row.source not in known:
            raise MalformedError(
                f"the plan of layers takes {row.output!r} from {row.source!r} of contribution {row.member}, "
                f"which is not there"
            )


def _delta(found: Coefficients) -> None:
    _only(found, ("down", "up"))
    merged = found.settings.get("merged", "")
    if not _HEX.fullmatch(merged):
        raise MalformedError(f"corrections name the merged model that they are for; got merged = {merged!r}")
    for task in {name.partition("/")[2] for name in found.shapes}:
        down, up = (found.shapes.get(f"{part}/{task}", ()) for part in ("down", "up"))
        if len(down) != 2 or up != down[::-1] or not all(down):
            raise MalformedError(
                f"task {task!r} has down of shape {list(down)} and up of shape {list(up)}, "
                "wanted [rank, features] and [features, rank]"
            )


_CHECKS: Final = {"coeffs": _coeffs, "masks": _masks, "hyper": _hyper, "plan": _plan, "delta": _delta}


def _only(found: Coefficients, known: Iterable[str]) -> None:
    for name in found.shapes:
        if name.partition("/")[0] not in known:
            raise MalformedError(f"a payload {found.payload} has no array {name!r}")


def _about(found: Coefficients, what: str) -> list[str]:
    return [name for name in found.shapes if name.startswith(f"{what}/")]


def _shape(found: Coefficients, name: str, wanted: tuple[int, ...]) -> None:
    given = found.shapes.get(name)
    if given is None:
        raise MalformedError(f"there is no array {name!r}")
    if given != wanted:
        raise MalformedError(f"{name} has shape {list(given)}, wanted {list(wanted)}")
    if name.partition("/")[0] not in ("masks", "plan") and name in found.octets:
        raise MalformedError(f"{name} holds bytes, wanted floating point")


def _covered(found: Coefficients, what: str) -> None:
    """Check that there are arrays ``what/…``, and that each of them speaks of some tensor."""
    names = _about(found, what)
    if not names:
        raise MalformedError(f"there is no array {what}/…")
    used = Counter(found.about(what, tensor) for tensor, _ in found.tensors)
    for name in names:
        if name not in used:
            raise MalformedError(f"{name} matches no tensor, or only such as a longer pattern matches too")
