"""A disk that forgets: every state in which a power cut may leave a folder, enumerated.

    with recording(folder) as disk:     the code under test runs on the real file system, and every
        …; disk.acknowledge(promise)    operation below the folder is noted: writes, names, syncs, commits
    for state in disk.states():         what may be found after the power came back
        state.build(somewhere)          as real files
        state.promises                  what had been acknowledged by then

The model. Power fails after any operation. Of the operations before that moment

* those that a later sync covered are there: an fsync of a file covers what was written into it, and
  nothing of its name; an fsync of a folder covers the names in it, and nothing of what they name;
* of all others any set may be missing, whatever their order was: a name without the content, the content
  without the name, the second write without the first;
* a rename is one operation, there or not, and is covered by an fsync of the folder that it leads to, as on
  every journalling file system; it may arrive before the content of what it renames;
* a write that was not synced may be torn: its first half is there, and behind it nothing, or zeros;
* what the database commits is there at once, whole, as SQLite promises with synchronous = FULL; the name
  of a new database is a name like any other.

Sets of missing operations are all tried while there are at most 2**ALL_OF; beyond that none, all, each one
alone, all but each one, and a number of sets drawn by a seed. A state that several histories lead to is
looked at once, with all that any of them had acknowledged.

An fsync inside the recording costs nothing, and threads that only save time (`Late`) do their work as late
as they may: the disk under test has done as little as it ever could.
"""

from __future__ import annotations

import io
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol
from unittest.mock import patch

from crdtmerge.store import database as databases
from crdtmerge.store import disk as disks
from crdtmerge.store import ingest as ingests

ALL_OF: Final = 4
"""Unsynced operations of which every subset is tried."""
DRAWN: Final = 8
"""Subsets that are drawn where there are more."""
ROOT: Final = 0
"""The node of the recorded folder."""

Promise = Callable[[Any], None]
"""Checks that something acknowledged is there; what it is given to look at is the test's choice."""


class Killed(BaseException):
    """The process ends here, as by ``kill -9``: what catches errors does not catch this."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes of a file; with ``durable`` as if synced at once."""

    node: int
    offset: int
    data: bytes
    durable: bool = False

    def apply(self, state: Tree) -> None:
        content = state.content(self.node)
        if self.durable:
            content.clear()
        end = self.offset + len(self.data)
        content.extend(bytes(max(0, end - len(content))))
        content[self.offset : end] = self.data

    @property
    def synced_by(self) -> int:
        return self.node


@dataclass(frozen=True, slots=True)
class Resize:
    """Another length of a file."""

    node: int
    size: int

    def apply(self, state: Tree) -> None:
        content = state.content(self.node)
        content.extend(bytes(max(0, self.size - len(content))))
        del content[self.size :]

    @property
    def synced_by(self) -> int:
        return self.node


@dataclass(frozen=True, slots=True)
class Name:
    """A name in a folder for a node, or with None for nothing; with ``moved`` that name ends meanwhile."""

    folder: int
    name: str
    node: int | None
    moved: tuple[int, str] | None = None

    def apply(self, state: Tree) -> None:
        if self.moved is not None:
            state.names.pop(self.moved, None)
        if self.node is None:
            state.names.pop((self.folder, self.name), None)
        else:
            state.names[self.folder, self.name] = self.node

    @property
    def synced_by(self) -> int:
        return self.folder


@dataclass(frozen=True, slots=True)
class Sync:
    """An fsync of a file or folder."""

    node: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """From here on somebody relies on it."""

    promise: Promise


Change = Write | Resize | Name
Step = Change | Sync | Acknowledged


@dataclass
class Tree:
    """Files and folders: what each name stands for, and what each file holds."""

    folders: frozenset[int] = frozenset({ROOT})
    names: dict[tuple[int, str], int] = field(default_factory=dict)
    files: dict[int, bytearray] = field(default_factory=dict)

    def content(self, node: int) -> bytearray:
        """The bytes of a file, to be changed."""
        return self.files.setdefault(node, bytearray())

    def under(self, folder: int) -> list[tuple[str, int]]:
        """Names in a folder with what they stand for, ascending."""
        return sorted((name, node) for (parent, name), node in self.names.items() if parent == folder)

    def build(self, path: Path, folder: int = ROOT) -> None:
        """Make these files below an empty folder."""
        for name, node in self.under(folder):
            if node in self.folders:
                (path / name).mkdir()
                self.build(path / name, node)
            else:
                (path / name).write_bytes(self.content(node))
                (path / name).chmod(0o600)

    def fingerprint(self, folder: int = ROOT) -> bytes:
        """What is equal where the files are."""
        total = sha256()
        for name, node in self.under(folder):
            part = self.fingerprint(node) if node in self.folders else sha256(self.content(node)).digest()
            total.update(repr((name, node in self.folders)).encode() + part)
        return total.digest()


@dataclass(frozen=True)
class State:
    """What a power cut left, and what had been promised by then."""

    tree: Tree
    promises: tuple[Promise, ...]
    told: str

    def build(self, path: Path) -> None:
        """Make it, below a folder that is made."""
        path.mkdir()
        self.tree.build(path)


class _Future(Protocol):
    def result(self) -> Any: ...


class Late:
    """An executor that does its work when somebody waits for it, and never if nobody does."""

    def __init__(self, *_: object) -> None:
        self.map = map

    def submit(self, work: Callable[..., Any], *arguments: Any) -> _Future:
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
        self._given = Tree()
        self._folders = {ROOT}
        self._next = ROOT
        self._open: dict[int, int] = {}
        self._adopt(root, ROOT)
        self._given = self._copy(self._tree)

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
            self._folders.add(self._next)
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

    def _adopt(self, path: Path, folder: int) -> None:
        """Take what is there for durable."""
        for entry in sorted(path.iterdir()):
            if entry.name in ("meta.db-wal", "meta.db-shm"):
                continue
            self._next += 1
            self._tree.names[folder, entry.name] = node = self._next
            if entry.is_dir():
                self._folders.add(node)
                self._adopt(entry, node)
            else:
                self._tree.files[node] = bytearray(entry.read_bytes())

    # --- what may be left ------------------------------------------------------------------------

    def states(self, *, after: int = 0, seed: int = 1) -> Iterator[State]:
        """Every state that is tried, once each, of a power cut after so many steps or later."""
        found: dict[bytes, State] = {}
        for end in range(after, len(self.steps) + 1):
            done = self.steps[:end]
            promises = tuple(step.promise for step in done if isinstance(step, Acknowledged))
            for lost, torn in _losses(done, random.Random(f"{seed} {end}")):
                tree = self._copy(self._given)
                for index, step in enumerate(done):
                    if index not in lost and isinstance(step, Write | Resize | Name):
                        for part in torn.get(index, [step]):
                            part.apply(tree)
                told = f"{end} of {len(self.steps)} steps; lost {sorted(lost)}, torn {sorted(torn)}"
                found[tree.fingerprint()] = State(tree, promises, told)
        yield from found.values()

    def _copy(self, tree: Tree) -> Tree:
        files = {node: bytearray(content) for node, content in tree.files.items()}
        return Tree(frozenset(self._folders), dict(tree.names), files)


def _losses(
    done: Sequence[Step], chance: random.Random
) -> Iterator[tuple[frozenset[int], dict[int, list[Change]]]]:
    """Sets of operations that may be missing, and writes that may be torn."""
    synced: set[int] = set()
    loose: list[int] = []
    for index in range(len(done) - 1, -1, -1):
        step = done[index]
        if isinstance(step, Sync):
            synced.add(step.node)
        elif isinstance(step, Write | Resize | Name) and step.synced_by not in synced:
            if not (isinstance(step, Write) and step.durable):
                loose.append(index)
    everything = frozenset(loose)
    if len(loose) <= ALL_OF:
        sets = {
            frozenset(index for bit, index in enumerate(loose) if number >> bit & 1)
            for number in range(1 << len(loose))
        }
    else:
        alone = {frozenset({index}) for index in loose}
        drawn = {frozenset(chance.sample(loose, chance.randrange(2, len(loose)))) for _ in range(DRAWN)}
        sets = {frozenset[int](), everything} | alone | {everything - one for one in alone} | drawn
    for lost in sorted(sets, key=sorted):
        yield lost, {}
    for index in loose:
        step = done[index]
        if isinstance(step, Write) and len(step.data) > 1:
            first = Write(step.node, step.offset, step.data[: len(step.data) // 2])
            size = Resize(step.node, step.offset + len(step.data))
            yield frozenset(), {index: [first]}
            yield frozenset(), {index: [first, size]}


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

    changed = {"open": open_, "close": close, "pwrite": pwrite, "fsync": sync, "fdatasync": sync}
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
        raw = Raw(file, mode.replace("b", "").replace("t", ""), opener=lambda path, flags: os.open(path, flags))
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
