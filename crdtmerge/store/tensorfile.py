"""Safetensors files, as ranges of raw bytes: read with checks of our own, written in one layout.

    u64 little-endian: length of the header ── header: a JSON object ── data: the tensors' raw bytes
                                               {"name": {"dtype", "shape", "data_offsets": [begin, end]}, …}

A header is believed only after all of this was checked: it is short, and within the file; it is one JSON
object without duplicate keys; names, dtypes and shapes are within the limits; every tensor is as long as
its shape says; the tensors cover the data exactly, with no gap and no overlap. So a file has one meaning,
whichever reader reads it, and nothing can hide in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from crdtmerge.digest import Readable
from crdtmerge.dtypes import DType
from crdtmerge.errors import LimitError, MalformedError, ParameterError, RejectedError, StoreError, UsageError
from crdtmerge.limits import SAFETENSORS_HEADER_BYTES_MAX
from crdtmerge.store import files, header
from crdtmerge.store.header import LENGTH_BYTES, Entry


class TensorFile:
    """A safetensors file open for reading, its header checked; several threads may read.

    Attributes:
        path: the file.
        tensors: its tensors by name, in the order of their content.
        metadata: the texts of the header.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            RejectedError: if it is no regular file, or holds a dtype that is not supported.
            MalformedError: if it breaks a rule of the format, or of this module.
            LimitError: if it exceeds a limit.
            StoreError: if it cannot be read.
        """
        self.path = path
        with files.disk_errors("opening", path):
            self._descriptor = files.open_regular(path)
        try:
            self.tensors, self.metadata = self._parse()
        except BaseException:
            self.close()
            raise

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Return bytes ``[begin, end)`` of the content of a tensor.

        Raises:
            ParameterError: if the range does not lie within the tensor.
            StoreError: if the file cannot be read, or was cut short since it was opened.
        """
        entry = self.tensors[name]
        if not 0 <= begin <= end <= entry.bytes:
            raise ParameterError(f"bytes [{begin}, {end}) of {name}, which has {entry.bytes}")
        return self._read(entry.begin + begin, entry.begin + end)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, begin: int, end: int) -> bytes:
        with files.disk_errors("reading", self.path):
            data = files.read_exactly(self._descriptor, begin, end)
        if len(data) != end - begin:
            raise StoreError(
                f"{self.path} ends {end - begin - len(data)} bytes before it did when it was opened"
            )
        return data

    def _parse(self) -> tuple[dict[str, Entry], dict[str, str]]:
        size = os.fstat(self._descriptor).st_size
        if size < LENGTH_BYTES:
            raise MalformedError(f"{self.path} has {size} bytes, too few for a safetensors file")
        length = int.from_bytes(self._read(0, LENGTH_BYTES), "little")
        if length > SAFETENSORS_HEADER_BYTES_MAX:
            raise LimitError(
                f"{self.path} is no safetensors file, or its header is too long: it claims {length} bytes, "
                f"at most {SAFETENSORS_HEADER_BYTES_MAX} are accepted"
            )
        if LENGTH_BYTES + length > size:
            raise MalformedError(f"{self.path} claims a header of {length} bytes, and has {size} in all")
        try:
            return header.parse(self._read(LENGTH_BYTES, LENGTH_BYTES + length), file_bytes=size)
        except RejectedError as error:
            raise type(error)(f"{self.path}: {error}") from error


class TensorFileWriter:
    """A safetensors file in the making, for several threads at once.

    Under its path nothing changes before `publish`. Until then it grows next to it as ``partial``, which
    leaving the context removes; unless the writer resumes, so that a later run can take it up again.
    Equal tensors and metadata give equal bytes.

    Attributes:
        path: where it will be published.
        partial: where it grows.
    """

    def __init__(
        self,
        path: Path,
        tensors: Iterable[tuple[str, DType, Sequence[int]]],
        *,
        metadata: Mapping[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        """Reserve the space for (name, dtype, shape) tensors and write the header.

        Args:
            path: where to publish.
            tensors: in any order.
            metadata: texts for the header.
            resume: grow as ``<path>.part``, and go on with what an earlier run left there if its header
                is the same. Its content is the caller's to check before it says `written`.

        Raises:
            MalformedError, LimitError: if a name, a shape or the header breaks a rule of the format.
            OutOfSpaceError: if the disk has not the room.
            LockedError: if another process is at ``<path>.part``.
        """
        head, self._entries = header.build(tensors, metadata or {})
        self.path = path
        self._resume = resume
        self._unwritten = {name: entry.bytes for name, entry in self._entries.items() if entry.bytes}
        self._lock = threading.Lock()
        end = max((entry.end for entry in self._entries.values()), default=len(head))
        with files.disk_errors("writing", path):
            if resume:
                self.partial = path.with_name(path.name + ".part")
                self._descriptor = files.open_locked(self.partial)
            else:
                self._descriptor, self.partial = files.create(path.parent, f".{path.name}.")
            try:
                self._begin(head, end)
            except OSError:
                self.abort()
                raise

    def write(self, name: str, offset: int, raw: Readable) -> None:
        """Write ``raw`` at byte ``offset`` of a tensor's content; each byte is to be written once.

        Raises:
            ParameterError: if it does not lie within the tensor.
        """
        entry = self._entries[name]
        size = len(memoryview(raw).cast("B"))
        if not 0 <= offset <= offset + size <= entry.bytes:
            raise ParameterError(f"bytes [{offset}, {offset + size}) of {name}, which has {entry.bytes}")
        with files.disk_errors("writing", self.path):
            files.write_all(self._descriptor, raw, entry.begin + offset)
        with self._lock:
            self._unwritten[name] = self._unwritten.get(name, 0) - size
            if not self._unwritten[name]:
                del self._unwritten[name]

    def written(self, name: str) -> None:
        """Take note that all of a tensor stands in ``partial`` already."""
        with self._lock:
            self._unwritten.pop(name, None)

    def sync(self) -> None:
        """Make what was written so far survive a power cut."""
        with files.disk_errors("syncing", self.path):
            os.fdatasync(self._descriptor)

    def publish(self) -> None:
        """Make the file durable, then visible under its path, in place of an earlier one.

        Raises:
            UsageError: if not every byte was written exactly once.
        """
        if self._unwritten:
            name, left = next(iter(self._unwritten.items()))
            raise UsageError(f"{self.path} is not complete: of {name}, {left} bytes are still to be written")
        with files.disk_errors("publishing", self.path):
            os.fsync(self._descriptor)
            self.partial.replace(self.path)
            self._close()
            files.sync(self.path.parent)

    def close(self) -> None:
        """Stop writing; what is not published is removed, or with ``resume`` left for a later run."""
        if self._resume:
            self._close()
        else:
            self.abort()

    def abort(self) -> None:
        """Remove what was written; does nothing after `publish` or `close`."""
        if self._descriptor >= 0:
            self.partial.unlink(missing_ok=True)
            self._close()

    def __enter__(self) -> TensorFileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, head: bytes, end: int) -> None:
        size = os.fstat(self._descriptor).st_size
        if size != end or files.read_exactly(self._descriptor, 0, len(head)) != head:
            os.ftruncate(self._descriptor, 0)
            os.posix_fallocate(self._descriptor, 0, end)
            files.write_all(self._descriptor, head, 0)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
