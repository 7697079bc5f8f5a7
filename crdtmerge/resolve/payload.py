"""Coefficients on their way in: from a search's arrays, or a file of them, to a payload's manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from crdtmerge.coefficients import APPLIES_TO, PAYLOADS
from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.store import Store, ingest_tensors

from .statedict import to_raw

UNROWED = ("breaks", "groups")
"""Arrays without a row for each contribution."""


@dataclass(frozen=True)
class Payload:
    """What a search found: see `crdtmerge.coefficients`.

    Attributes:
        strategy: that applies it.
        payload: one of `crdtmerge.coefficients.PAYLOADS`.
        arrays: float64 or float32 (masks and plans: uint8) by name. Those of coeffs, masks and hyper have one
            row for each contribution, in the order in which the caller names these.
        settings: texts that the payload asks for, and claims of the search.
    """

    strategy: str
    payload: str
    arrays: Mapping[str, torch.Tensor]
    settings: Mapping[str, str] = field(default_factory=dict)


def take_coefficients(store: Store, payload: Payload, members: Sequence[Digest]) -> Manifest:
    """Put a payload into a store, its rows in canonical order, and return its manifest.

    Args:
        store: where it goes.
        payload: what was found.
        members: digests of the contributions that it was found for, in the order of its rows.

    Raises:
        ParameterError: if rows and contributions differ in number, or a contribution is named twice.
    """
    if payload.payload not in PAYLOADS:
        raise ParameterError(f"payload is one of {', '.join(PAYLOADS)}; got {payload.payload!r}")
    if len(set(members)) != len(members) or not members:
        raise ParameterError("coefficients are for at least one contribution, each named once")
    order = sorted(range(len(members)), key=lambda i: members[i])
    arrays: dict[str, torch.Tensor] = {}
    for name, array in payload.arrays.items():
        rowed = payload.payload in ("coeffs", "masks", "hyper") and name not in UNROWED
        if rowed and (array.dim() == 0 or len(array) != len(members)):
            raise ParameterError(
                f"array {name} of shape {list(array.shape)} for {len(members)} contributions"
            )
        arrays[name] = array[order] if rowed else array
    if APPLIES_TO in arrays:
        raise ParameterError(f"{APPLIES_TO} is written by crdtmerge: leave it out")
    bound = bytearray(b"".join(members[i] for i in order))
    arrays[APPLIES_TO] = torch.frombuffer(bound, dtype=torch.uint8).reshape(len(members), -1)
    described = dict(payload.settings) | {"strategy": payload.strategy, "payload": payload.payload}
    return ingest_tensors(store, to_raw(arrays), kind=Kind.COEFFICIENTS, metadata=described)
