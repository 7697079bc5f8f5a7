"""Taking models in: tensors become blocks and block lists, and a manifest that names them.

Content streams through block by block, so memory is bounded whatever the size of the model. All that can
be refused without the content (headers, names, shapes, declarations) is refused before it is read.

Blocks become durable before block lists, and those before the manifest. Whenever a run is interrupted,
the next one reads the files again and writes only the blocks that are not there yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from crdtmerge.block import block_digest
from crdtmerge.digest import DIGEST_BYTES, Digest, Readable
from crdtmerge.dtypes import DType
from crdtmerge.errors import RejectedError, ShapeMismatchError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Factor, Kind, Manifest, Tensor, element_count
from crdtmerge.store.header import Entry
from crdtmerge.store.references import file_state
from crdtmerge.store.shards import shards_of
from crdtmerge.store.store import Store
from crdtmerge.store.tensorfile import TensorFile

_THREADS: Final = 2  # while one reads and hashes, the other writes; each holds one block
_AT_ONCE: Final = 256 * BLOCK_BYTES  # handed to them; bounds what is queued

TensorData: TypeAlias = tuple[DType, Sequence[int], Readable]
Files: TypeAlias = Path | Sequence[Path]


def ingest_file(
    store: Store,
    path: Files,
    *,
    kind: Kind,
    base: Digest | None = None,
    reference: bool = False,
    progress: Callable[[int], None] | None = None,
    factors: Sequence[Factor] = (),
    evidence: Files | None = None,
    weight: str = "1",
    metrics: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Manifest:
    """Take in a model from safetensors files; durable on return.

    Args:
        store: where it goes.
        path: what `shards_of` accepts, or the files themselves.
        kind: as in `Manifest`; likewise ``base``, ``factors``, ``weight``, ``metrics`` and ``metadata``.
        base: digest of the base's manifest.
        reference: leave the content in the files, which then must stay as they are, instead of copying it.
        progress: called with the size in bytes of each block that is done.
        factors: of a contribution of kind LORA, in any order.
        evidence: files of tensors that describe the contribution.
        weight: canonical decimal.
        metrics: canonical decimals by name.
        metadata: texts by key.

    Raises:
        RejectedError: if a file is refused (see `shards_of` and `TensorFile`), or changed while it was read.
        MalformedError, LimitError: likewise, or if a tensor is there twice, or `Manifest` refuses.
        OutOfSpaceError: if the disk is full.
    """
    with ExitStack() as stack:
        opened: list[_File] = []

        def sources(where: Files) -> Iterator[_Source]:
            for shard in shards_of(where) if isinstance(where, Path) else where:
                opened.append(_File(store, stack.enter_context(TensorFile(shard)), in_place=reference))
                yield from opened[-1].sources()

        def finish() -> None:
            for file in opened:
                file.finish()

        return _take_in(
            store,
            list(sources(path)),
            list(sources(evidence or ())),
            declare=_declaration(kind, base, factors, weight, metrics, metadata),
            progress=progress,
            finish=finish,
        )


def ingest_tensors(
    store: Store,
    tensors: Mapping[str, TensorData],
    *,
    kind: Kind,
    base: Digest | None = None,
    factors: Sequence[Factor] = (),
    evidence: Mapping[str, TensorData] | None = None,
    weight: str = "1",
    metrics: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Manifest:
    """Take in a model from memory; durable on return.

    Args:
        store: where it goes.
        tensors: (dtype, shape, raw little-endian content) by name.
        kind: as in `ingest_file`; likewise all that follow.
        base: digest of the base's manifest.
        factors: of a contribution of kind LORA.
        evidence: tensors that describe the contribution, in the form of ``tensors``.
        weight: canonical decimal.
        metrics: canonical decimals by name.
        metadata: texts by key.

    Raises:
        ShapeMismatchError: if some content has not the size that its shape asks for.
        MalformedError, LimitError, OutOfSpaceError: as `ingest_file` does.
    """
    return _take_in(
        store,
        [_in_memory(store, name, data) for name, data in tensors.items()],
        [_in_memory(store, name, data) for name, data in (evidence or {}).items()],
        declare=_declaration(kind, base, factors, weight, metrics, metadata),
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """A tensor to be taken in; ``keep(begin, end)`` keeps a range of its content as a block."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    keep: Callable[[int, int], Digest]

    def blocks(self, pool: Executor, progress: Callable[[int], None] | None) -> list[Digest]:
        size = element_count(self.shape) * self.dtype.itemsize
        names: list[Digest] = []
        for start in range(0, size, _AT_ONCE):
            stop = min(start + _AT_ONCE, size)
            bounds = [*range(start, stop, BLOCK_BYTES), stop]
            for name in pool.map(self.keep, bounds, bounds[1:]):
                names.append(name)
                if progress:
                    progress(min(BLOCK_BYTES, size - (len(names) - 1) * BLOCK_BYTES))
        return names


class _File:
    """A file whose tensors are being taken in, by copying or in place."""

    def __init__(self, store: Store, file: TensorFile, *, in_place: bool) -> None:
        self._store, self._file, self._in_place = store, file, in_place
        self._state = file_state(file.fileno())
        self._references: list[tuple[Digest, int, int]] = []

    def sources(self) -> Iterator[_Source]:
        for entry in self._file.tensors.values():
            yield _Source(entry.name, entry.dtype, entry.shape, partial(self._keep, entry))

    def finish(self) -> None:
        if self._state is None or file_state(self._file.fileno()) != self._state:
            raise RejectedError(f"{self._file.path} was changed while it was read; start again when it rests")
        if self._references:
            self._store.references.add(self._file.path, self._state, self._references)

    def _keep(self, entry: Entry, begin: int, end: int) -> Digest:
        data = self._file.read(entry.name, begin, end)
        if not self._in_place:
            return self._store.blocks.put(data)
        name = block_digest(data)
        self._references.append((name, entry.begin + begin, end - begin))
        return name


def _in_memory(store: Store, name: str, data: TensorData) -> _Source:
    dtype, shape, raw = data
    view = memoryview(raw).cast("B")
    if len(view) != element_count(shape) * dtype.itemsize:
        raise ShapeMismatchError(
            f"{name}: {dtype.code} {list(shape)} does not have {len(view)} bytes", [name]
        )
    return _Source(name, dtype, tuple(shape), lambda begin, end: store.blocks.put(view[begin:end]))


def _declaration(
    kind: Kind,
    base: Digest | None,
    factors: Sequence[Factor],
    weight: str,
    metrics: Mapping[str, str] | None,
    metadata: Mapping[str, str] | None,
) -> Callable[..., Manifest]:
    """Return what makes the manifest, once ``tensors`` and ``evidence`` are known."""
    return partial(
        Manifest,
        kind=kind,
        base=base,
        factors=tuple(sorted(factors, key=lambda factor: factor.target)),
        weight=weight,
        metrics=_pairs(metrics),
        metadata=_pairs(metadata),
    )


def _take_in(
    store: Store,
    tensors: Sequence[_Source],
    evidence: Sequence[_Source],
    *,
    declare: Callable[..., Manifest],
    progress: Callable[[int], None] | None = None,
    finish: Callable[[], None] = lambda: None,
) -> Manifest:
    sources = [*tensors, *evidence]
    unknown = [Digest(bytes(DIGEST_BYTES))] * len(sources)
    declare(tensors=_rooted(tensors, unknown), evidence=_rooted(evidence, unknown))  # refuses what it can
    with store.taking_in():
        with ThreadPoolExecutor(_THREADS, "crdtmerge-ingest") as pool:
            lists = [(source.dtype, source.shape, source.blocks(pool, progress)) for source in sources]
        finish()
        roots = store.put_tensors(lists)
        manifest = declare(
            tensors=_rooted(tensors, roots[: len(tensors)]), evidence=_rooted(evidence, roots[len(tensors) :])
        )
        store.put_manifest(manifest)
    return manifest


def _rooted(sources: Sequence[_Source], roots: Sequence[Digest]) -> tuple[Tensor, ...]:
    tensors = (Tensor(s.name, s.dtype, s.shape, root) for s, root in zip(sources, roots, strict=False))
    return tuple(sorted(tensors, key=lambda tensor: tensor.name))


def _pairs(texts: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((texts or {}).items()))
