"""Files that hold one secret key each: 64 hexadecimal digits and a newline.

Always true here: a secret is written whole or not at all, readable by its owner only, and never replaced;
a secret that others on this machine can read is refused instead of used.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from crdtmerge.errors import StoreError, UsageError
from crdtmerge.keys import KEY_BYTES
from crdtmerge.store import files

IDENTITY: Final = "identity.key"
"""Name of the file with a home's Ed25519 secret: losing it loses the node's name for ever."""

_SECRET_FILE_BYTES: Final = 2 * KEY_BYTES + 1


def read_secret(path: Path) -> bytes:
    """Return the 32 bytes in a secret's file.

    Raises:
        UsageError: if there is none, or if others can read it.
        StoreError: if it is damaged.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_SECRET_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist: this home was not initialised, or did not join") from error
    if mode & 0o077:
        raise UsageError(f"{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged: wanted {2 * KEY_BYTES} hexadecimal digits") from error
    if len(secret) != KEY_BYTES or len(text) != _SECRET_FILE_BYTES:
        raise StoreError(f"{path} is damaged: wanted {2 * KEY_BYTES} hexadecimal digits and a newline")
    return secret


def create_secret(path: Path, secret: bytes | None, draw: Callable[[], bytes]) -> bytes:
    """Store a secret unless there is one; return the one that stands.

    Args:
        path: the file; its folder is made, readable by its owner only, if it does not exist.
        secret: the 32 bytes to store; ``draw()`` by default.
        draw: makes a new secret.

    Raises:
        UsageError: if the file holds another secret than the given one, or others can read it.
    """
    files.make_folder(path.parent, mode=0o700)
    if not path.exists():
        publish(path, (draw() if secret is None else secret).hex().encode() + b"\n")
    stands = read_secret(path)
    if secret is not None and stands != secret:
        raise UsageError(f"{path} already holds another key; use another home for another federation")
    return stands


def publish(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all, unless there is one already."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, fails if another process published its own first: then that one stands.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
