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
from crdtmerge.evidence import KINDS, Layout
from crdtmerge.recipe import Recipe
from crdtmerge.resolve import Contribution, merge
from crdtmerge.resolve.statedict import to_raw
from crdtmerge.strategy import Needs, find

ANSWERS: Final = {
    "dare 1": "66915d2693c9e604e682cb321c06e47e6e1613b48744921647b11e37e62ba6d7",
    "dare_ties 1": "a99565060e2c25d75b37d7b483dbbbc0041d72046c584edd7c0ebddf9f1f9e67",
    "linear 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
    "slerp 1": "2db4ebbf5410bd863b832c469a599399babdab3a6896cff43cedc4de65f764b9",
    "task_arithmetic 1": "be44fad7584f47f070fc0eec9295cfb832091e341f0e2f82ad024378d288d6bd",
    "ties 1": "4bf674a2e5bd92872e7053eec6b5e50bcb032b67c9ccd447629e8a1932ea346e",
    "weight_average 1": "c5b50a495f6a15faec6480adf661572c160ad0ecd1208ee227fa4b7f07149718",
}
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
    found = find(strategy, int(version))
    needs = found.needs(found.read(()))
    merged = merge([equipped(_model(i), i, needs) for i in (1, 2, 3)], base=_model(0), recipe=recipe)
    parts = [raw for _, _, raw in to_raw(merged).values()]
    return digest(Domain.RESULT, b"".join(parts))


def equipped(model: dict[str, torch.Tensor], which: int, needs: Needs) -> Contribution:
    """Return a test model with the evidence and the role that a strategy needs."""
    evidence = {
        f"{kind}/{name}": said
        for kind in needs.kinds_read
        for name, tensor in model.items()
        if (said := testimony(kind, tensor.double())) is not None
    }
    role = needs.roles[which % len(needs.roles)] if needs.roles else None
    return Contribution(model, evidence=evidence or None, role=role)


def testimony(kind: str, values: torch.Tensor) -> torch.Tensor | None:
    """Return well-formed evidence of a kind, made of a tensor's own values; None if it has no place."""
    layout = KINDS[kind].layout
    if layout is Layout.ELEMENT:
        return values / 2 if KINDS[kind].signed else values.abs() + 0.25
    if layout is Layout.BITS:
        bits = values.flatten() > 0
        padded = torch.zeros(-(-bits.numel() // 8) * 8, dtype=torch.int64)
        padded[: bits.numel()] = bits
        return (padded.reshape(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)
    if values.dim() != 2:
        return None
    if layout is Layout.SCALAR:
        return torch.tensor(8)
    if layout is Layout.ROWS or layout is Layout.COLUMNS:
        return torch.arange(1, 1 + values.shape[0 if layout is Layout.ROWS else 1]).double()
    size = values.shape[1 if layout is Layout.GRAM else 0]
    # The unit matrix times 2 and ones beside the diagonal: positive, and no reduction rounds.
    matrix = 2 * torch.eye(size) + torch.eye(size).roll(1, 1).triu() + torch.eye(size).roll(1, 1).triu().T
    return matrix.double()[tuple(torch.tril_indices(size, size))]


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
