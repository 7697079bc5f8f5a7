"""Which published coefficients a strategy applies: found, read and checked, the same on every replica.

Of the payloads bound to exactly the merged contributions, the one by the author of highest authority counts,
then the lowest digest; one that is malformed, or meant for another strategy, is passed over by every replica
alike. None left means the strategy's documented initial point, and a note in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from crdtmerge.arith import Tensor
from crdtmerge.coefficients import APPLIES_TO, PAYLOADS, Coefficients, Published, candidates
from crdtmerge.digest import Digest
from crdtmerge.errors import MalformedError, NonFiniteError, NotYetError
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.store import Reader, Store
from crdtmerge.strategy import Strategy

from .inputs import read

Choose = Callable[[Strategy], tuple[Coefficients | None, tuple[str, ...]]]
"""From a strategy to its coefficients, or None, and notes for the result."""


def chooser(store: Store, published: Sequence[Published], members: tuple[Digest, ...]) -> Choose:
    """Return what finds a strategy's coefficients for a merge of exactly ``members``.

    Raises (when called):
        NotYetError: if a payload that might count has not arrived.
    """

    def choose(strategy: Strategy) -> tuple[Coefficients | None, tuple[str, ...]]:
        reader = store.reader(1 << 24)
        notes: list[str] = []
        for candidate in candidates(published, members):
            manifest = store.manifest(candidate.payload)
            missing = store.missing(manifest)
            if missing:
                raise NotYetError(
                    "published coefficients have not arrived yet", missing.roots + missing.blocks
                )
            try:
                found = open_payload(manifest, reader, members)
            except (MalformedError, NonFiniteError) as error:
                notes.append(f"coefficients {candidate.payload.hex()[:12]}… are passed over: {error}")
                continue
            if found.strategy == strategy.name:
                return found, tuple(notes)
        notes.append(f"{strategy.name}: no coefficients match these contributions; its initial point is used")
        return None, tuple(notes)

    return choose


def open_payload(manifest: Manifest, reader: Reader, members: tuple[Digest, ...]) -> Coefficients:
    """Return a payload, after checking that it is one, and for these members.

    Raises:
        MalformedError: if it is not.
        NonFiniteError: if an array holds NaN or infinity.
    """
    settings = dict(manifest.metadata)
    bound = manifest.by_name.get(APPLIES_TO)
    if manifest.kind is not Kind.COEFFICIENTS or "strategy" not in settings or bound is None:
        raise MalformedError("it is no payload of coefficients")
    if settings.get("payload") not in PAYLOADS:
        raise MalformedError(
            f"its payload is {settings.get('payload')!r}, wanted one of {', '.join(PAYLOADS)}"
        )
    if reader.read(bound, 0, bound.bytes) != b"".join(members):
        raise MalformedError("it is bound to other contributions than its operation says")

    def values(name: str) -> Tensor:
        entry = manifest.by_name[name]
        if entry.dtype.floating:
            return read(reader, entry, 0, entry.elements)
        if entry.dtype.code != "U8":
            raise MalformedError(
                f"its array {name} has dtype {entry.dtype.code}, wanted floating point or U8"
            )
        raw = bytearray(reader.read(entry, 0, entry.bytes))
        return (
            torch.frombuffer(raw, dtype=torch.uint8).double() if raw else torch.zeros(0, dtype=torch.float64)
        )

    shapes = {t.name: t.shape for t in manifest.tensors if t.name != APPLIES_TO}
    for name in shapes:
        if not torch.isfinite(values(name)).all():
            raise NonFiniteError(f"its array {name} holds NaN or infinity", name)
    return Coefficients(
        digest=manifest.digest,
        strategy=settings["strategy"],
        payload=settings["payload"],
        settings=settings,
        shapes=shapes,
        read=values,
    )
