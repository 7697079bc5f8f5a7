"""Coefficients on their way in: from a search's arrays, or a file of them, to a payload's manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from crdtmerge.coefficients import APPLIES_TO, PAYLOADS
from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError
from crdtmerge.limits import COEFFICIENTS_BYTES_MAX
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.store import Store, ingest_tensors
from crdtmerge.store.tensorfile import TensorFile

from .statedict import from_raw, to_raw

CONTRIBUTIONS = "contributions"
"""In a file's metadata: a JSON list of digests, or of their first digits, in the order of the rows."""


@dataclass(frozen=True)
class Payload:
    """What a search found: see `crdtmerge.coefficients`.

    Attributes:
        strategy: that applies it.
        payload: one of `crdtmerge.coefficients.PAYLOADS`.
        arrays: float64 or float32 (masks and plans: uint8) by name. Those of coeffs, masks and hyper have one
            row for each contribution, in the order in which the caller names these; not so ``breaks``, nor
            masks with the setting ``shared = yes``. A plan counts contributions ascending by digest.
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
        rowed = _rowed(payload, name)
        if rowed and (array.dim() == 0 or len(array) != len(members)):
            raise ParameterError(
                f"array {name} has shape {list(array.shape)}, wanted one row each for {len(members)} "
                "contributions: those that were named, or else all that would be merged now"
            )
        arrays[name] = array[order] if rowed else array
    if APPLIES_TO in arrays:
        raise ParameterError(f"{APPLIES_TO} is written by crdtmerge: leave it out")
    bound = bytearray(b"".join(members[i] for i in order))
    arrays[APPLIES_TO] = torch.frombuffer(bound, dtype=torch.uint8).reshape(len(members), -1)
    described = dict(payload.settings) | {"strategy": payload.strategy, "payload": payload.payload}
    return ingest_tensors(store, to_raw(arrays), kind=Kind.COEFFICIENTS, metadata=described)


def _rowed(payload: Payload, name: str) -> bool:
    """Whether an array has a row for each contribution."""
    if payload.payload not in ("coeffs", "masks", "hyper") or name == "breaks":
        return False
    return not (name.startswith("masks/") and payload.settings.get("shared") == "yes")


def read_payload(
    path: Path, *, strategy: str | None = None, settings: Mapping[str, str] | None = None
) -> tuple[Payload, list[str] | None]:
    """Read a payload from a safetensors file.

    Its metadata says ``strategy``, ``payload`` (coeffs by default), ``contributions`` and the settings.

    Args:
        path: the file.
        strategy: instead of what the metadata says.
        settings: beside, or instead of, those of the metadata.

    Returns:
        The payload, and how its file names the contributions in the order of its rows, or None.

    Raises:
        RejectedError: if it is no safetensors file.
        ParameterError: if it is too large, names no strategy, or its list of contributions is none.
    """
    with TensorFile(path) as file:
        if sum(entry.bytes for entry in file.tensors.values()) > COEFFICIENTS_BYTES_MAX:
            raise ParameterError(f"{path} holds more than {COEFFICIENTS_BYTES_MAX} bytes of coefficients")
        said = {key: text for key, text in file.metadata.items() if key != "format"} | dict(settings or {})
        arrays = {
            name: from_raw(entry.dtype, entry.shape, file.read(name, 0, entry.bytes))
            for name, entry in file.tensors.items()
        }
    listed, named = said.pop(CONTRIBUTIONS, None), strategy or said.pop("strategy", None)
    if named is None:
        raise ParameterError(f"{path} does not say which strategy applies it: give --strategy")
    return Payload(named, said.pop("payload", "coeffs"), arrays, said), _names(path, listed)


def _names(path: Path, listed: str | None) -> list[str] | None:
    if listed is None:
        return None
    try:
        names = json.loads(listed)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ParameterError(f"{path}: its metadata {CONTRIBUTIONS} is no JSON list of digests")
    return names
