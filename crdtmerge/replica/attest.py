"""Attesting results: what was computed here, said under this node's name, and compared with the others."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from crdtmerge import ambient, witness
from crdtmerge.ledger import Ledger
from crdtmerge.resolve import Result
from crdtmerge.sync.attestation import ENVIRONMENT_CHARACTERS_MAX, Claim, inputs_of


def claim_of(result: Result) -> Claim:
    """Return what is claimed by who publishes a result."""
    return Claim(
        recipe=result.recipe.digest,
        root=result.root,
        inputs=inputs_of(
            result.merged.base,
            result.contributions,
            [digest for digest, _ in result.excluded],
            result.coefficients,
        ),
        model=result.model,
        result=result.digest,
    )


def environment() -> str:
    """Say what computes here, for people who look for the cause of a divergence."""
    text = (
        f"crdtmerge {version('crdtmerge')}, python {platform.python_version()}, torch {torch.__version__} "
        f"({torch.backends.cpu.get_cpu_capability()}), {platform.system()} {platform.machine()}"
    )
    printable = "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
    return printable[:ENVIRONMENT_CHARACTERS_MAX]


def attest(ledger: Ledger, result: Result) -> None:
    """Attest a published result.

    Raises:
        DivergenceError: if somebody else attests another model made from the same.
    """
    witness.attest(
        ledger.store,
        ledger.key,
        ledger.view,
        claim_of(result),
        federation=ledger.operations.federation,
        environment=environment(),
        now_ms=ambient.now_ms(),
    )
