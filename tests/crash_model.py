"""What a power cut may leave of a folder, given all that was done below it.

Power fails after any operation. Of the operations before that moment

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
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

ALL_OF: Final = 4
"""Unsynced operations of which every subset is tried."""
DRAWN: Final = 8
"""Subsets that are drawn where there are more."""
ROOT: Final = 0
"""The node of the recorded folder."""

Promise = Callable[[Any], object]
"""Checks that something acknowledged is there; what it is given to look at is the test's choice."""


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
    durable: bool = False

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
    durable: bool = False

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

    folders: set[int] = field(default_factory=lambda: {ROOT})
    names: dict[tuple[int, str], int] = field(default_factory=dict)
    files: dict[int, bytearray] = field(default_factory=dict)

    def content(self, node: int) -> bytearray:
        """The bytes of a file, to be changed."""
        return self.files.setdefault(node, bytearray())

    def copy(self) -> Tree:
        """The same, to be changed apart from this."""
        files = {node: bytearray(content) for node, content in self.files.items()}
        return Tree(set(self.folders), dict(self.names), files)

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


def states(given: Tree, steps: Sequence[Step], *, after: int = 0, seed: int = 1) -> Iterator[State]:
    """Every state that is tried, once each, of a power cut after so many steps or later.

    Args:
        given: what was there, durably, before the first step; its folders include those of the steps.
        steps: what was done.
        after: steps that the power cut comes after.
        seed: of the sets that are drawn.
    """
    found: dict[bytes, State] = {}
    for end in range(after, len(steps) + 1):
        done = steps[:end]
        promises = tuple(step.promise for step in done if isinstance(step, Acknowledged))
        for lost, torn in _losses(done, random.Random(f"{seed} {end}")):
            tree = given.copy()
            for index, step in enumerate(done):
                if index not in lost and isinstance(step, Write | Resize | Name):
                    for part in torn.get(index, [step]):
                        part.apply(tree)
            told = f"{end} of {len(steps)} steps; lost {sorted(lost)}, torn {sorted(torn)}"
            found[tree.fingerprint()] = State(tree, promises, told)
    yield from found.values()


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
        elif isinstance(step, Write | Resize | Name) and not (step.durable or step.synced_by in synced):
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
