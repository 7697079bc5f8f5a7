"""Members found by what a recipe or their authors call them."""

from __future__ import annotations

from collections.abc import Sequence

from crdtmerge.errors import ParameterError
from crdtmerge.strategy import Group


def named(group: Group, text: str, parameter: str) -> int:
    """Return the index of the one member with this label or, if none has it, whose digest begins so.

    Args:
        group: whose members.
        text: the label, or hexadecimal digits.
        parameter: where the text stands in the recipe, for the error.

    Raises:
        ParameterError: if no member is called so, or several are.
    """
    found = [i for i, member in enumerate(group.members) if member.label == text]
    if not found and text:
        found = [i for i, member in enumerate(group.members) if member.digest.hex().startswith(text.lower())]
    if len(found) != 1:
        known = ", ".join(f"{m.digest.hex()[:12]}… ({m.label or 'no label'})" for m in group.members)
        raise ParameterError(
            f"{parameter} = {text!r} names {len(found) or 'none'} of the contributions, wanted one. "
            f"Name it by its label or the first digits of its digest: {known}"
        )
    return found[0]


def by_topic(group: Group, indices: Sequence[int]) -> dict[str | None, list[int]]:
    """Return the members of each topic, topics ascending; those without one come first, under None."""
    found: dict[str | None, list[int]] = {}
    for i in indices:
        found.setdefault(group.members[i].topic, []).append(i)
    return dict(sorted(found.items(), key=lambda item: (item[0] is not None, (item[0] or "").encode())))
