"""Which published coefficients a strategy applies: found, read and checked, the same on every replica.

Of the payloads bound to exactly the merged contributions, the one by the author of highest authority counts,
then the lowest digest; one that is malformed, or that its strategy cannot apply, is passed over by every
replica alike, and the result says so. None left means the strategy's documented initial point, and a note in
the result.

The same reading and checking guards the way out (`check_payload`): what would be passed over is not
published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch

from crdtmerge import gradient
from crdtmerge.arith import Tensor
from crdtmerge.coefficients import APPLIES_TO, PAYLOADS, Coefficients, Published, Shapes, candidates, check
from crdtmerge.digest import Digest
from crdtmerge.errors import LimitError, MalformedError, NonFiniteError, NotYetError, ParameterError
from crdtmerge.limits import COEFFICIENTS_BYTES_MAX
from crdtmerge.manifest import Kind, Manifest
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.store import Reader, Store
from crdtmerge.strategy import Strategy, find

from .inputs import read

Choose = Callable[[Strategy, Mapping[str, Any]], tuple[Coefficients | None, tuple[str, ...]]]
"""From a strategy and its arguments to its coefficients, or None, and notes for the result."""

_AT_ONCE = 1 << 20
_CACHED = 64


def floating(reference: Manifest) -> Shapes:
    """Return the names and shapes of a model's floating tensors, ascending by name."""
    return tuple((tensor.name, tensor.shape) for tensor in reference.tensors if tensor.dtype.floating)


def chooser(
    store: Store, published: Sequence[Published], members: tuple[Digest, ...], tensors: Shapes
) -> Choose:
    """Return what finds a strategy's coefficients for a merge of exactly ``members``.

    Raises (when called):
        NotYetError: if a payload that might count has not arrived.
    """

    def choose(
        strategy: Strategy, arguments: Mapping[str, Any]
    ) -> tuple[Coefficients | None, tuple[str, ...]]:
        reader = store.reader(1 << 24)
        notes: list[str] = []
        for candidate in candidates(published, members):
            manifest = store.manifest(candidate.payload)
            if dict(manifest.metadata).get("strategy") != strategy.name:
                continue
            try:
                check_size(manifest)
                missing = store.missing(manifest)
                if missing:
                    raise NotYetError(
                        "published coefficients have not arrived yet", missing.roots + missing.blocks
                    )
                found = open_payload(manifest, reader, members, tensors)
                suits(found, strategy, arguments)
            except (LimitError, MalformedError, NonFiniteError) as error:
                notes.append(f"coefficients {candidate.payload.hex()[:12]}… are passed over: {error}")
                continue
            return found, tuple(notes)
        notes.append(f"{strategy.name}: no coefficients match these contributions; its initial point is used")
        return None, tuple(notes)

    return choose


def check_payload(
    store: Store, manifest: Manifest, members: Sequence[Digest], tensors: Shapes, recipe: Recipe
) -> Coefficients:
    """Return a payload of our own, after every check that a replica will make before it applies it.

    Args:
        store: holds its content.
        manifest: the payload.
        members: contributions that it is bound to.
        tensors: of the model.
        recipe: in force, versions pinned; where it names the payload's strategy, its parameters count.

    Raises:
        ParameterError, NonFiniteError: if every replica would pass over it.
        UnknownStrategyError: if its strategy is not installed.
    """
    try:
        check_size(manifest)
        found = open_payload(manifest, store.reader(1 << 24), tuple(sorted(members)), tensors)
        strategy = find(found.strategy)
        if not strategy.declared.coefficients:
            raise ParameterError(f"{found.strategy} applies no published coefficients")
        for rule in (*recipe.rules, Rule("*", recipe.strategy, recipe.version, recipe.parameters)):
            if rule.strategy == found.strategy:
                named = find(rule.strategy, rule.version)
                suits(found, named, named.read(gradient.at(rule.parameters, Fraction(0))))
    except (LimitError, MalformedError) as error:
        raise ParameterError(f"every replica would pass over these coefficients: {error}") from error
    return found


def suits(found: Coefficients, strategy: Strategy, arguments: Mapping[str, Any]) -> None:
    """Check that a strategy with these arguments can apply a well-formed payload.

    Raises:
        MalformedError: if not.
    """
    if strategy.suits is not None:
        strategy.suits(found, **arguments)


def check_size(manifest: Manifest) -> None:
    """Check a payload's size, which its manifest tells.

    Raises:
        LimitError: if it is too large.
    """
    if manifest.content_bytes > COEFFICIENTS_BYTES_MAX:
        raise LimitError(
            f"a payload of {manifest.content_bytes} bytes, at most {COEFFICIENTS_BYTES_MAX} are accepted"
        )


def open_payload(
    manifest: Manifest, reader: Reader, members: tuple[Digest, ...], tensors: Shapes
) -> Coefficients:
    """Return a payload, after checking its form, and that it is for these members.

    Raises:
        MalformedError, LimitError: if it is not.
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
    wanted = b"".join(members)
    if bound.bytes != len(wanted) or reader.read(bound, 0, bound.bytes) != wanted:
        raise MalformedError("it is bound to other contributions than its operation says")
    arrays = {tensor.name: tensor for tensor in manifest.tensors if tensor.name != APPLIES_TO}
    for name, entry in arrays.items():
        if not entry.dtype.floating and entry.dtype.code != "U8":
            raise MalformedError(f"{name} has dtype {entry.dtype.code}, wanted floating point or U8")

    @lru_cache(_CACHED)  # small arrays are asked for again with every tile
    def values(name: str, start: int, stop: int) -> Tensor:
        entry = arrays[name]
        if entry.dtype.floating:
            return read(reader, entry, start, stop)
        raw = bytearray(reader.read(entry, start, stop))
        return (
            torch.frombuffer(raw, dtype=torch.uint8).double() if raw else torch.zeros(0, dtype=torch.float64)
        )

    for name, entry in arrays.items():
        for start in range(0, entry.elements if entry.dtype.floating else 0, _AT_ONCE):
            stop = min(start + _AT_ONCE, entry.elements)
            if not torch.isfinite(read(reader, entry, start, stop)).all():
                raise NonFiniteError(f"its array {name} holds NaN or infinity", name)
    found = Coefficients(
        digest=manifest.digest,
        strategy=settings["strategy"],
        payload=settings["payload"],
        settings=settings,
        shapes={name: entry.shape for name, entry in arrays.items()},
        octets=frozenset(name for name, entry in arrays.items() if not entry.dtype.floating),
        count=len(members),
        tensors=tensors,
        read=values,
    )
    check(found)
    return found
