"""Coefficients on their way out: checked as every replica will check them, and durable before announced.

A payload is bound to exact contributions. It applies where a merge takes exactly those, and nowhere else:
once one of them is retracted, or another one arrives, it is history.
"""

from __future__ import annotations

from collections.abc import Sequence

from crdtmerge.coefficients import Published
from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError, UsageError
from crdtmerge.limits import TARGETS_MAX
from crdtmerge.manifest import Manifest
from crdtmerge.op import Coefficients
from crdtmerge.resolve import Payload, check_payload, floating, take_coefficients
from crdtmerge.store import Store
from crdtmerge.visible import View


def prepare(
    store: Store, view: View, base: Manifest, payload: Payload, members: Sequence[Digest]
) -> Coefficients:
    """Put a payload into a store, durably, and return what to say about it.

    Args:
        store: where it goes.
        view: what is visible, and the recipe in force.
        base: of the federation.
        payload: what was found.
        members: contributions that it was found for, in the order of its rows.

    Raises:
        UsageError: if one of these is not visible.
        ParameterError, NonFiniteError: if every replica would pass over it.
    """
    for digest in members:
        if digest not in view.contributions:
            raise UsageError(f"contribution {digest.hex()[:12]}… is not visible: nobody merges it")
    if len(members) > TARGETS_MAX:
        raise ParameterError(f"coefficients for {len(members)} contributions, at most {TARGETS_MAX}")
    manifest = take_coefficients(store, payload, members)
    check_payload(store, manifest, members, floating(base), view.recipe)
    store.blocks.flush()
    return Coefficients(manifest.digest, tuple(sorted(members)))


def published(view: View) -> list[Published]:
    """Return what was published, with the authority of who did."""
    found = []
    for operation in view.coefficients:
        level = view.authority.level(operation.author)
        if isinstance(operation.body, Coefficients) and level is not None:
            found.append(Published(level, operation.body.payload, operation.body.bound_to))
    return found
