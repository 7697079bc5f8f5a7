"""A disk that forgets: what code under test does below a folder is noted, step by step.

    with recording(folder) as disk:     the real file system is used, and every operation below the
        …; disk.acknowledge(promise)    folder is noted: writes, names, syncs, commits of the database
    for state in disk.states():         what may be found after the power came back (`crash_model`)
        state.build(somewhere)          as real files
        state.promises                  what had been acknowledged by then

An fsync inside the recording costs nothing, and threads that only save time (`Late`) do their work as late
as they may: the disk under test has done as little as it ever could. A process can be killed at any step
(`kill_at`) and another one go on with what it left in the page cache (`revive`).
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from crash_model import (
    ROOT,
    Acknowledged,
    Change,
    Name,
    Promise,
    Resize,
    State,
    Step,
    Sync,
    Tree,
    Write,
    states,
)

from crdtmerge.store import database as databases
from crdtmerge.store import disk as disks
from crdtmerge.store import ingest as ingests


class Killed(BaseException):
    """The process ends here, as by ``kill -9``: what catches errors does not catch this."""


class Late:
    """An executor that does its work when somebody waits for it, and never if nobody does."""

    def __init__(self, *_: object) -> None:
        self.map = map

    def submit(self, work: Callable[..., Any], *arguments: Any) -> _Promised:
        """Promise to do something."""
        return _Promised(work, arguments)

    def shutdown(self, **_: object) -> None:
        """Forget what nobody waited for."""

    def __enter__(self) -> Late:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Promised:
    def __init__(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._work, self._arguments = work, arguments

    def result(self) -> Any:
        return self._work(*self._arguments)

    def exception(self) -> None:
        return None


class Recorder:
    """The operations below a folder, in the order in which they were done.

    Attributes:
        steps: what was done.
        kill_at: number of changes and syncs after which the process is dead; None for never.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[Step] = []
        self.kill_at: int | None = None
        self._lock = threading.RLock()
        self._tree = Tree()
        self._next = ROOT
        self._open: dict[int, int] = {}
        self._adopt(root, ROOT)
        self._given = self._tree.copy()

    # --- what happens ---------------------------------------------------------------------------

    def acknowledge(self, promise: Promise) -> None:
        """Note that somebody relies on something from now on."""
        with self._lock:
            self.steps.append(Acknowledged(promise))

    def alive(self) -> None:
        """End the process if its time has come."""
        if self.kill_at is not None and self.count >= self.kill_at:
            raise Killed

    @property
    def count(self) -> int:
        """How many changes and syncs there were."""
        return sum(not isinstance(step, Acknowledged) for step in self.steps)

    def revive(self) -> None:
        """Let another process go on with what the page cache holds: nothing was lost but the process."""
        self.kill_at = None
        for descriptor in list(self._open):
            os.close(descriptor)

    def note(self, step: Change | Sync) -> None:
        """Note what was done."""
        with self._lock:
            self.steps.append(step)
            if not isinstance(step, Sync):
                step.apply(self._tree)

    def node(self, path: Path) -> int | None:
        """The node behind a path; None outside the folder, and where nothing is."""
        place = self.place(path)
        return ROOT if path == self.root else None if place is None else self._tree.names.get(place)

    def place(self, path: Path) -> tuple[int, str] | None:
        """The folder of a path, and its name there; None outside the recorded folder."""
        if path == self.root:
            return (-1, "")
        if not path.is_relative_to(self.root):
            return None
        folder: int | None = ROOT
        for part in path.relative_to(self.root).parts[:-1]:
            folder = None if folder is None else self._tree.names.get((folder, part))
        return None if folder is None else (folder, path.name)

    def made(self, place: tuple[int, str], *, folder: bool) -> int:
        """Note a new file or folder."""
        self._next += 1
        if folder:
            self._tree.folders.add(self._next)
        self.note(Name(*place, self._next))
        return self._next

    def opened(self, descriptor: int, node: int) -> None:
        """Note what a descriptor stands for."""
        self._open[descriptor] = node

    def behind(self, descriptor: int) -> int | None:
        """The node of a descriptor."""
        return self._open.get(descriptor)

    def closed(self, descriptor: int) -> None:
        """Note that a descriptor is free."""
        self._open.pop(descriptor, None)

    def committed(self, path: Path, image: bytes) -> None:
        """Note what a database holds from now on."""
        place, node = self.place(path), self.node(path)
        assert place is not None
        self.note(Write(self.made(place, folder=False) if node is None else node, 0, image, durable=True))

    def check(self) -> None:
        """Compare what was noted with what is there, so that no operation goes by unseen."""
        real = Recorder(self.root)
        for tree in (noted := self._tree.copy()), real._tree:
            tree.files |= {
                node: bytearray() for (_, name), node in tree.names.items() if name.startswith("meta.db")
            }
        assert noted.fingerprint() == real._tree.fingerprint(), "something changed files behind our back"

    def _adopt(self, path: Path, folder: int) -> None:
        """Take what is there for durable."""
        for entry in sorted(path.iterdir()):
            if entry.name in ("meta.db-wal", "meta.db-shm"):
                continue
            self._next += 1
            self._tree.names[folder, entry.name] = node = self._next
            if entry.is_dir():
                self._tree.folders.add(node)
                self._adopt(entry, node)
            else:
                self._tree.files[node] = bytearray(entry.read_bytes())

    def states(self, *, after: int = 0) -> Iterator[State]:
        """What a power cut after so many steps or later may leave; see `crash_model.states`."""
        self._given.folders |= self._tree.folders
        return states(self._given, self.steps, after=after)


@contextmanager
def recording(root: Path) -> Iterator[Recorder]:
    """Note what is done below a folder; what is there counts as durable."""
    disk = Recorder(root)
    with ExitStack() as stack:
        for name, double in _doubles(disk).items():
            stack.enter_context(patch.object(os, name, double))
        stack.enter_context(patch.object(io, "open", _open_double(disk)))
        stack.enter_context(patch.object(databases.Database, "_transaction", _transaction_double(disk)))
        for module in (disks, ingests):
            stack.enter_context(patch.object(module, "ThreadPoolExecutor", Late))
        yield disk
        disk.check()


def _doubles(disk: Recorder) -> dict[str, Callable[..., Any]]:
    """The calls of `os` that change or sync files, each doing its work and noting it."""
    real = {name: getattr(os, name) for name in ("open", "close", "pwrite", "ftruncate", "mkdir", "unlink")}
    real |= {name: getattr(os, name) for name in ("rmdir", "rename", "replace", "link", "posix_fallocate")}
    paths: dict[int, Path] = {}

    def at(path: Any, dir_fd: int | None = None) -> Path:
        return Path(path) if dir_fd is None else paths[dir_fd] / os.fsdecode(path)

    def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        where = at(path, dir_fd)
        place = disk.place(where)
        if place is None:
            return int(real["open"](path, flags, mode, dir_fd=dir_fd))
        node = disk.node(where)
        if flags & (os.O_CREAT | os.O_TRUNC):
            disk.alive()
        descriptor = int(real["open"](path, flags, mode, dir_fd=dir_fd))
        if node is None:
            node = disk.made(place, folder=False)
        elif flags & os.O_TRUNC:
            disk.note(Resize(node, 0))
        disk.opened(descriptor, node)
        paths[descriptor] = where
        return descriptor

    def close(descriptor: int) -> None:
        real["close"](descriptor)
        disk.closed(descriptor)

    def pwrite(descriptor: int, data: Any, offset: int) -> int:
        node = disk.behind(descriptor)
        if node is not None:
            disk.alive()
        written = int(real["pwrite"](descriptor, data, offset))
        if node is not None:
            disk.note(Write(node, offset, bytes(memoryview(data)[:written])))
        return written

    def sync(descriptor: int) -> None:
        node = disk.behind(descriptor)
        if node is not None:
            disk.alive()
            disk.note(Sync(node))

    def ftruncate(descriptor: int, size: int) -> None:
        node = disk.behind(descriptor)
        if node is not None:
            disk.alive()
        real["ftruncate"](descriptor, size)
        if node is not None:
            disk.note(Resize(node, size))

    def posix_fallocate(descriptor: int, offset: int, size: int) -> None:
        node = disk.behind(descriptor)
        if node is not None:
            disk.alive()
        real["posix_fallocate"](descriptor, offset, size)
        if node is not None:
            disk.note(Resize(node, offset + size))

    def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        place = disk.place(at(path, dir_fd))
        if place is not None:
            disk.alive()
        real["mkdir"](path, mode, dir_fd=dir_fd)
        if place is not None:
            disk.made(place, folder=True)

    def gone(call: str) -> Callable[..., None]:
        def remove(path: Any, *, dir_fd: int | None = None) -> None:
            place = disk.place(at(path, dir_fd))
            if place is not None:
                disk.alive()
            real[call](path, dir_fd=dir_fd)
            if place is not None:
                disk.note(Name(*place, None))

        return remove

    def moved(call: str) -> Callable[..., None]:
        def move(source: Any, target: Any) -> None:
            place, node = disk.place(Path(target)), disk.node(Path(source))
            if place is not None:
                disk.alive()
            real[call](source, target)
            if place is not None:
                disk.note(Name(*place, node, moved=None if call == "link" else disk.place(Path(source))))

        return move

    changed: dict[str, Callable[..., Any]] = {
        "open": open_,
        "close": close,
        "pwrite": pwrite,
        "fsync": sync,
        "fdatasync": sync,
    }
    changed |= {"ftruncate": ftruncate, "posix_fallocate": posix_fallocate, "mkdir": mkdir}
    changed |= {name: gone(name) for name in ("unlink", "rmdir")}
    return changed | {name: moved(name) for name in ("rename", "replace", "link")}


def _open_double(disk: Recorder) -> Callable[..., Any]:
    """`io.open` whose files for writing note what reaches the system."""
    real = io.open

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            disk.alive()
            node, offset = disk.behind(self.fileno()), self.tell()
            if "a" in self.mode:
                offset = os.fstat(self.fileno()).st_size
            written = super().write(data)
            if node is not None:
                disk.note(Write(node, offset, bytes(memoryview(data)[:written])))
            return written

        def close(self) -> None:
            if not self.closed:
                disk.closed(self.fileno())
            super().close()

    def open_(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        ours = disk.behind(file) is not None if isinstance(file, int) else disk.place(Path(file)) is not None
        if not ours or not set(mode) & set("wax"):
            return real(file, mode, *arguments, **options)
        raw = Raw(
            file, mode.replace("b", "").replace("t", ""), opener=lambda path, flags: os.open(path, flags)
        )
        buffer = io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding="utf-8")

    return open_


def _transaction_double(disk: Recorder) -> Callable[..., Any]:
    """A transaction whose commit is one durable step."""
    real = databases.Database._transaction

    @contextmanager
    def transaction(self: databases.Database) -> Iterator[Any]:
        path = self._path
        ours = path is not None and path.is_relative_to(disk.root)
        if ours:
            disk.alive()
        with real(self) as connection:
            yield connection
        if ours and path is not None:
            with self._lock:
                disk.committed(path, self._connection.serialize())

    return transaction
