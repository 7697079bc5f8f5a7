"""Checks of lengths and counts, before anything is made of what came from a wire."""

from __future__ import annotations

from collections.abc import Sequence

from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import LimitError, MalformedError


def exactly(what: str, value: bytes, length: int) -> None:
    """Refuse bytes of another length with MalformedError."""
    if len(value) != length:
        raise MalformedError(f"{what} of {len(value)} bytes, wanted {length}")


def at_most(what: str, value: bytes, bytes_max: int) -> None:
    """Refuse too many bytes with LimitError."""
    if len(value) > bytes_max:
        raise LimitError(f"{what} of {len(value)} bytes, at most {bytes_max} are accepted")


def few(what: str, values: Sequence[bytes], count_max: int) -> None:
    """Refuse too many values with LimitError."""
    if len(values) > count_max:
        raise LimitError(f"{len(values)} {what} in one message, at most {count_max} are accepted")


def digests(what: str, values: Sequence[bytes], count_max: int) -> None:
    """Refuse too many values with LimitError, and what is no digest with MalformedError."""
    few(what, values, count_max)
    for value in values:
        exactly(what, value, DIGEST_BYTES)


def size(what: str, value: int, maximum: int) -> None:
    """Refuse a number outside ``[0, maximum]`` with LimitError."""
    if not 0 <= value <= maximum:
        raise LimitError(f"{what} of {value}, between 0 and {maximum} are accepted")
