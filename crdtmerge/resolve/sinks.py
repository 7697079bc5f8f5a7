"""Where merged bytes go: into memory, or through a digest into a file that appears all at once.

A result is a folder, named after the recipe and the visible root and published by one rename:

    results/<recipe>-<root>/
      model.safetensors         the merged tensors
      corrections.safetensors   what was published for exactly this model, if anything (`corrections`)
      result.crdtmerge          the canonical record of what they were made of (`Result`)

Until then it grows in a working folder beside it. Each finished tensor is noted there with its root, in a
journal of the plan that it belongs to, so a merge that was interrupted takes up its own tensors again, after
checking every byte of them, and never those of another plan.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch

from crdtmerge import digest as digests
from crdtmerge.digest import Digest, Domain, Readable, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import MalformedError, StoreError
from crdtmerge.limits import BLOCK_BYTES, MIB
from crdtmerge.manifest import Kind, Manifest, Tensor, element_count, tensor_root
from crdtmerge.store import files
from crdtmerge.store.tensorfile import TensorFile, TensorFileWriter

from .result import Result
from .statedict import from_raw
from .verify import METADATA, MODEL, RECORD, record_bytes, root_in_file

_LARGE_PAGE: Final = 2 * MIB

_JOURNAL: Final = "done-"
_PART: Final = MODEL + ".part"

Layout = Sequence[tuple[str, DType, tuple[int, ...]]]


class MemorySink:
    """Merged tensors as a torch state dict."""

    def __init__(self, layout: Layout) -> None:
        self._layout = {name: (dtype, shape) for name, dtype, shape in layout}
        self._data = {name: _memory(element_count(shape) * dtype.itemsize) for name, dtype, shape in layout}

    def room(self, name: str, begin: int, end: int) -> memoryview:
        """Return where bytes ``[begin, end)`` of one tensor go."""
        return memoryview(self._data[name])[begin:end]

    def write(self, name: str, begin: int, raw: Readable) -> None:
        """Take the bytes of one tensor from ``begin`` on."""
        self.room(name, begin, begin + len(raw))[:] = raw

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The tensors by name, ascending."""
        return {name: from_raw(*self._layout[name], data) for name, data in self._data.items()}


def _memory(size: int) -> bytearray | mmap.mmap:
    """Return zeroed memory; much of it in large pages, which the kernel clears several times faster."""
    if size < _LARGE_PAGE:
        return bytearray(size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if (advice := getattr(mmap, "MADV_HUGEPAGE", None)) is not None:
        with suppress(OSError):  # a kernel without them
            memory.madvise(advice)
    return memory


class TensorDigests:
    """Roots of tensors whose bytes arrive in order."""

    def __init__(self, layout: Layout) -> None:
        self._layout = {name: (dtype, shape) for name, dtype, shape in layout}
        self._blocks: dict[str, list[Digest]] = {name: [] for name in self._layout}
        self._open: dict[str, bytearray] = {}
        self._seen = dict.fromkeys(self._layout, 0)

    def feed(self, name: str, begin: int, raw: Readable) -> Digest | None:
        """Take the next bytes of a tensor; its root when they were the last."""
        if begin != self._seen[name]:
            raise StoreError(f"{name}: bytes arrive at {begin}, wanted {self._seen[name]}")
        self._seen[name] += len(raw)
        pending = self._open.setdefault(name, bytearray())
        dtype, shape = self._layout[name]
        last = self._seen[name] == element_count(shape) * dtype.itemsize
        fresh = memoryview(raw)
        if pending:
            taken = min(len(fresh), BLOCK_BYTES - len(pending))
            pending += fresh[:taken]
            fresh = fresh[taken:]
            if len(pending) == BLOCK_BYTES:
                self._add(name, pending)
                pending.clear()
        whole = len(fresh) - len(fresh) % BLOCK_BYTES
        for start in range(0, whole, BLOCK_BYTES):
            self._add(name, fresh[start : start + BLOCK_BYTES])
        pending += fresh[whole:]
        if last and pending:
            self._add(name, pending)
        if not last:
            return None
        del self._open[name]
        return tensor_root(dtype, shape, self._blocks[name])

    def _add(self, name: str, block: Readable) -> None:
        self._blocks[name].append(digest(Domain.BLOCK, block))


class FileSink:
    """A result folder in the making; see the top of the file.

    Attributes:
        work: where it grows.
    """

    def __init__(self, target: Path, layout: Layout, identity: Digest) -> None:
        """Begin, or take up again, the result of a plan, to be published as ``target``.

        Args:
            target: the folder.
            layout: the merged tensors.
            identity: of the plan.
        """
        self._target = target
        self._layout = layout
        self.work = target.with_name(target.name + ".part")
        files.make_folder(self.work)
        self._journal_path = self.work / f"{_JOURNAL}{identity.hex()[:16]}"
        self._digests = TensorDigests(layout)
        self._roots = self._recover()
        for name, dtype, shape in layout:  # an empty tensor has no bytes that could finish it
            if element_count(shape) == 0:
                self._roots[name] = tensor_root(dtype, shape, [])
        self._writer = TensorFileWriter(self.work / MODEL, layout, metadata=METADATA, resume=True)
        for name in self._roots:
            self._writer.written(name)
        self._journal = self._journal_path.open("a", encoding="utf-8")

    @property
    def done(self) -> frozenset[str]:
        """Names of the tensors that are complete, from an earlier run too."""
        return frozenset(self._roots)

    def room(self, name: str, begin: int, end: int) -> None:
        """None: bytes are wanted in order."""

    def write(self, name: str, begin: int, raw: Readable) -> None:
        """Take the next bytes of one tensor."""
        self._writer.write(name, begin, raw)
        root = self._digests.feed(name, begin, raw)
        if root is not None:
            self._roots[name] = root
            self._writer.sync()
            self._journal.write(f"{root.hex()} {name.encode().hex()}\n")
            self._journal.flush()

    def merged(self, base: Digest | None) -> Manifest:
        """Return the manifest of the finished tensors."""
        missing = [name for name, _, _ in self._layout if name not in self._roots]
        if missing:
            raise StoreError(f"the merge ended without {missing[0]} and {len(missing) - 1} more tensors")
        tensors = (Tensor(name, dtype, shape, self._roots[name]) for name, dtype, shape in self._layout)
        return Manifest(Kind.FULL, base, tuple(tensors))

    def publish(self, result: Result) -> None:
        """Make the result appear under its name, whole and durable."""
        self._journal.close()
        self._writer.publish()
        record = self.work / RECORD
        with record.open("wb") as file:
            file.write(record_bytes(result))
            file.flush()
            os.fsync(file.fileno())
        for journal in self.work.glob(f"{_JOURNAL}*"):
            journal.unlink()
        files.sync(self.work)
        if self._target.exists():  # another process was faster; its bytes are the same by construction
            shutil.rmtree(self.work)
        else:
            self.work.rename(self._target)
        files.sync(self._target.parent)

    def close(self) -> None:
        """Leave the working folder for a later run."""
        self._journal.close()
        self._writer.close()

    def _recover(self) -> dict[str, Digest]:
        """Return the roots of tensors that an earlier run finished and that are still intact."""
        journal, part = self._journal_path, self.work / _PART
        noted: dict[str, Digest] = {}
        if not journal.exists() or not part.exists():
            return noted
        for line in journal.read_text(encoding="utf-8").splitlines():
            root, _, name = line.partition(" ")
            try:
                noted[bytes.fromhex(name).decode()] = digests.from_hex(root)
            except ValueError:
                break  # the line that the interruption cut
        try:
            file = TensorFile(part)
        except (MalformedError, StoreError):
            return {}
        layout = {(t.name, t.dtype, t.shape) for t in file.tensors.values()}
        if layout != set(self._layout):
            return {}
        return {n: root for n, root in noted.items() if n in file.tensors and root_in_file(file, n) == root}
