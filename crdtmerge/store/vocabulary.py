"""A model with more or fewer tokens than the base, made to fit it.

Fine-tunes add tokens, and releases pad their embeddings to another multiple: then a few tensors have another
number of rows than the base's, and the model is refused. Of such a tensor the rows that both have stay what
they are; rows that only the model has are left out, rows that only the base has are the base's. What follows
the first dimension lies together in memory, so that is a matter of where bytes are cut.

Always true here: no element is computed, and nothing but a number of rows is mended, the same in all tensors
concerned: a classifier with other classes has another meaning, not another length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from crdtmerge.errors import MalformedError, ShapeMismatchError, UsageError
from crdtmerge.manifest import Manifest, Tensor, element_count
from crdtmerge.store.header import Entry
from crdtmerge.store.shards import shards_of
from crdtmerge.store.store import Store
from crdtmerge.store.tensorfile import TensorFile, TensorFileWriter

_STEP: Final = 1 << 22


def fit_vocabulary(
    store: Store,
    base: Manifest,
    model: Path,
    out: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[str], int, int]:
    """Write a copy of a model whose tensors have as many rows as the base's.

    That row i stands for the same token in both is the caller's to know: tokenizers that only append do so.

    Args:
        store: holds the base's content.
        base: what is to be fitted.
        model: what `shards_of` accepts.
        out: the file to write, in place of one that is there.
        progress: called with the size in bytes of each piece that is written.

    Returns:
        The names of the tensors that were changed, their rows before, and their rows now.

    Raises:
        ShapeMismatchError: if tensors differ by different numbers of rows, or lack rows and have another
            dtype than the base.
        UsageError: if no tensor has another number of rows.
        MalformedError: if a tensor is there twice.
        RejectedError, OutOfSpaceError: as `TensorFile` and `TensorFileWriter` raise.
        NotYetError: if content of the base is missing.
    """
    with ExitStack() as stack:
        entries: dict[str, tuple[TensorFile, Entry]] = {}
        for shard in shards_of(model):
            file = stack.enter_context(TensorFile(shard))
            twice = sorted(entries.keys() & file.tensors.keys())
            if twice:
                raise MalformedError(f"{model} holds {', '.join(twice)} twice: in {shard} and before")
            entries |= {name: (file, entry) for name, entry in file.tensors.items()}
        twins = other_rows({name: entry for name, (_, entry) in entries.items()}, base.by_name)
        rows, wanted = _one_pair({name: (entries[name][1], twin) for name, twin in twins.items()}, model)
        shapes = {name: twins[name].shape if name in twins else e.shape for name, (_, e) in entries.items()}
        layout = [(name, entry.dtype, shapes[name]) for name, (_, entry) in entries.items()]
        metadata = {key: text for file, _ in entries.values() for key, text in file.metadata.items()}
        with TensorFileWriter(out, layout, metadata=metadata) as writer:

            def copy(name: str, begin: int, end: int, read: Callable[[int, int], bytes]) -> None:
                for at in range(begin, end, _STEP):
                    piece = read(at, min(at + _STEP, end))
                    writer.write(name, at, piece)
                    if progress:
                        progress(len(piece))

            for name, (file, entry) in entries.items():
                size = element_count(shapes[name]) * entry.dtype.itemsize
                copy(name, 0, min(entry.bytes, size), partial(file.read, name))
                if entry.bytes < size:
                    copy(name, entry.bytes, size, partial(store.read, twins[name]))
            writer.publish()
    return sorted(twins), rows, wanted


def other_rows(tensors: Mapping[str, Entry | Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the base's tensors that have another number of rows than a model's, and else its shape."""
    return {
        name: twin
        for name, entry in tensors.items()
        if (twin := base.get(name)) is not None
        and len(entry.shape) == len(twin.shape) > 0
        and entry.shape[1:] == twin.shape[1:]
        and entry.shape[0] != twin.shape[0]
    }


def _one_pair(pairs: Mapping[str, tuple[Entry, Tensor]], model: Path) -> tuple[int, int]:
    """Return the number of rows before and after, if that is the same in all tensors."""
    if not pairs:
        raise UsageError(
            f"no tensor of {model} differs from the base in its number of rows only: nothing to fit"
        )
    lengths = {(entry.shape[0], twin.shape[0]) for entry, twin in pairs.values()}
    if len(lengths) > 1:
        shown = ", ".join(f"{name} has {e.shape[0]} and not {t.shape[0]}" for name, (e, t) in pairs.items())
        raise ShapeMismatchError(
            f"one vocabulary has one length, but of the rows of tensors {shown}. Fit them by hand.",
            sorted(pairs),
        )
    ((rows, wanted),) = lengths
    foreign = sorted(name for name, (entry, twin) in pairs.items() if entry.dtype is not twin.dtype)
    if rows < wanted and foreign:
        raise ShapeMismatchError(
            f"{', '.join(foreign)} would get rows of the base, which has another dtype. Save the model in "
            "the base's dtypes first.",
            foreign,
        )
    return rows, wanted
