"""A model made ready to be announced: taken in, and checked as every other replica will check it.

Nothing is signed here: what is refused stays in the author's store, and nobody hears of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crdtmerge.errors import ShapeMismatchError
from crdtmerge.manifest import Factor, Kind, Manifest
from crdtmerge.op import Policy
from crdtmerge.rational import decimal
from crdtmerge.recipe import Number
from crdtmerge.resolve import Evidence, Model, Progress, admit, take
from crdtmerge.store import Store, adapter, vocabulary

from .selection import ADMITTED, check_size


def offer(
    store: Store,
    base: Manifest,
    policy: Policy,
    model: Model,
    *,
    kind: Kind,
    evidence: Evidence | None,
    weight: Number,
    metrics: Mapping[str, Number],
    metadata: Mapping[str, str],
    reference: bool,
    any_float: bool,
    progress: Progress | None,
) -> Manifest:
    """Put a contribution into a store, durably, and return its manifest; see `Replica.contribute`.

    Raises:
        ShapeMismatchError, NonFiniteError, EvidenceError: naming the tensors at fault.
        LimitError: if it exceeds the federation's quota.
    """
    factors: tuple[Factor, ...] = ()
    if isinstance(model, (str, Path)) and adapter.is_adapter(Path(model)):
        kind, factors = Kind.LORA, adapter.factors_of(Path(model), base.by_name)
    manifest = take(
        store,
        model,
        kind=kind,
        factors=factors,
        base=base.digest,
        reference=reference,
        progress=progress,
        evidence=evidence,
        weight=decimal(weight),
        metrics={name: decimal(value) for name, value in metrics.items()},
        metadata=metadata,
    )
    check_size(manifest, policy)
    try:
        admit(store, manifest, base, unrelated=True, any_float=any_float, progress=progress)
    except ShapeMismatchError as error:
        if not vocabulary.other_rows(manifest.by_name, base.by_name):
            raise
        hint = "If it only has more or fewer tokens, `crdtmerge fit` makes a copy that fits."
        raise ShapeMismatchError(f"{error} {hint}", error.tensors) from error
    store.blocks.flush()
    store.set_verdict(manifest.digest, ADMITTED)
    return manifest
