"""Which of the visible contributions a merge takes: what the recipe selects and content allows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from crdtmerge.digest import Digest
from crdtmerge.errors import (
    EvidenceError,
    LimitError,
    MalformedError,
    NonFiniteError,
    NotYetError,
    ShapeMismatchError,
)
from crdtmerge.manifest import Manifest
from crdtmerge.op import Policy
from crdtmerge.recipe import Selection
from crdtmerge.resolve import check_schema, check_values
from crdtmerge.store import Store
from crdtmerge.visible import View

ADMITTED: Final = "ok"
"""The verdict on a contribution that counts."""


def select(view: View, store: Store, selection: Selection) -> tuple[Digest, ...]:
    """Return the visible contributions that a recipe selects, ascending.

    Raises:
        NotYetError: if a manifest that the selection asks about has not arrived.
    """
    return tuple(d for d in view.contributions if _is_selected(d, view, store, selection))


def _is_selected(digest: Digest, view: View, store: Store, selection: Selection) -> bool:
    if selection.authors and not set(selection.authors) & set(view.authors(digest)):
        return False
    if not selection.labels and selection.metric is None:
        return True
    manifest = store.manifest(digest)
    if selection.labels and dict(manifest.metadata).get("label") not in selection.labels:
        return False
    if selection.metric is None:
        return True
    value = dict(manifest.metrics).get(selection.metric)
    return value is not None and (
        selection.at_least is None or Fraction(value) >= Fraction(selection.at_least)
    )


def judge(
    store: Store, chosen: Sequence[Digest], base: Manifest, policy: Policy
) -> tuple[list[Digest], list[tuple[Digest, str]]]:
    """Return which of the chosen contributions are merged, and which are left out for which reason.

    Raises:
        NotYetError: if the content of one has not arrived.
    """
    verdicts = [(digest, verdict(store, digest, base, policy)) for digest in chosen]
    admitted = [digest for digest, reason in verdicts if reason == ADMITTED]
    return admitted, [(digest, reason) for digest, reason in verdicts if reason != ADMITTED]


def verdict(store: Store, digest: Digest, base: Manifest, policy: Policy) -> str:
    """Return `ADMITTED`, or why a contribution does not count: a function of its content and the genesis.

    The answer is kept, since content never changes.

    Raises:
        NotYetError: if its content has not arrived.
    """
    known = store.verdict(digest)
    if known is None:
        known = _judge(store, store.manifest(digest), base, policy)
        store.set_verdict(digest, known)
    return known


def _judge(store: Store, manifest: Manifest, base: Manifest, policy: Policy) -> str:
    try:
        missing = store.missing(manifest)
        if missing:
            raise NotYetError(
                f"contribution {manifest.digest.hex()[:12]}… has not arrived completely: "
                "keep the node running",
                missing.roots + missing.blocks,
            )
        check_size(manifest, policy)
        if manifest.base != base.digest:
            raise ShapeMismatchError("it names another base than the federation's")
        check_schema(manifest, base)
        check_values(store, manifest, base=base)
    except (EvidenceError, LimitError, MalformedError, NonFiniteError, ShapeMismatchError) as error:
        return str(error)
    return ADMITTED


def check_size(manifest: Manifest, policy: Policy) -> None:
    """Check a contribution's size against the federation's quota.

    Raises:
        LimitError: if it is larger.
    """
    limit = policy.contribution_bytes_max
    if limit is not None and manifest.content_bytes > limit:
        raise LimitError(
            f"a contribution of {manifest.content_bytes} bytes; this federation accepts at most {limit}"
        )
