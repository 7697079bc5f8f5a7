"""Known answers: merges whose bytes are the same on every machine, and a check that they are here.

The inputs are made of integers, so that nothing but the merge itself is under test: three small models
in two dtypes, with ties, zeros of both signs, subnormal and ill-scaled values. For every strategy that
ships with the package the digest of the merged model is written down; a machine on which one differs
must not take part, since its peers would call its results divergent.
"""

from __future__ import annotations

from typing import Final

import torch

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import DivergenceError
from crdtmerge.recipe import Recipe
from crdtmerge.resolve import merge
from crdtmerge.resolve.statedict import to_raw

ANSWERS: Final[dict[str, str]] = {}
"""Strategy and version -> digest of what `answer` merges."""

_SHAPES: Final = {"bias": (33,), "half": (9, 31), "matrix": (48, 40), "scalar": ()}


def check() -> int:
    """Compute every known answer; return how many there are.

    Raises:
        DivergenceError: at the first that differs.
    """
    for name, wanted in ANSWERS.items():
        got = answer(*name.split(" "))
        if got.hex() != wanted:
            raise DivergenceError(
                f"{name} computes other bytes on this machine than everywhere else: do not let it take part, "
                "and please report the output of `crdtmerge doctor`",
                ours=got,
                theirs=bytes.fromhex(wanted),
            )
    return len(ANSWERS)


def answer(strategy: str, version: str) -> bytes:
    """Return the digest of the test models merged by a strategy with its default parameters."""
    recipe = Recipe(strategy, version=int(version))
    merged = merge([_model(i) for i in (1, 2, 3)], base=_model(0), recipe=recipe)
    parts = [raw for _, _, raw in to_raw(merged).values()]
    return digest(Domain.RESULT, b"".join(parts))


def _model(which: int) -> dict[str, torch.Tensor]:
    model = {}
    for position, (name, shape) in enumerate(_SHAPES.items()):
        count = torch.Size(shape).numel()
        steps = torch.arange(count, dtype=torch.int64)
        base = (steps * 2654435761 + position * 40503) % 65521 - 32760
        change = (steps * (40503 + 2 * which) + which * 2654435761) % 257 - 128
        change = change * (change.abs() % 3 > 0)  # many ties at zero
        values = (base + (change * which if which else 0)).double() / 4096.0
        values[:: max(count // 7, 1)] *= 2.0**-130  # subnormal in float32
        model[name] = values.to(torch.bfloat16 if name == "half" else torch.float32).reshape(shape)
    return model
