"""What of a view's content is to be fetched: the base, visible contributions, and coefficients that fit them.

Coefficients are bound to contributions. They are of use only while all of these are visible, so a payload
that is bound to anything else is not fetched: publishing costs a member no more than an operation, and must
not make everybody store what nobody can apply.
"""

from __future__ import annotations

from collections.abc import Sequence

from crdtmerge.digest import Digest
from crdtmerge.keys import NodeId
from crdtmerge.op import Coefficients
from crdtmerge.view import View


def contributions(view: View, base: Digest | None) -> list[Digest]:
    """Return the base, if there is one, and the visible contributions, ascending."""
    return [*([] if base is None else [base]), *view.contributions]


def payloads(view: View) -> dict[Digest, list[NodeId]]:
    """Return the coefficients that are bound to nothing but visible contributions, with their authors."""
    visible = view.contributions
    found: dict[Digest, list[NodeId]] = {}
    for operation in view.coefficients:
        body = operation.body
        if isinstance(body, Coefficients) and all(one in visible for one in body.bound_to):
            found.setdefault(body.payload, []).append(operation.author)
    return found


def authors(view: View, content: Digest) -> Sequence[NodeId]:
    """Return who added a contribution, or published coefficients."""
    return view.authors(content) or payloads(view).get(content, ())
