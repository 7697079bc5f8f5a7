"""Published results, read back: every byte of a result's folder is checked against its record.

    model.safetensors         canonical header, then the merged tensors
    corrections.safetensors   likewise, if the result has corrections
    result.crdtmerge          digest of the record, then the record (`Result`)

The digest guards against accidents; whose record it is, and whether it is the right one, is for whoever
knows the root or computes the merge again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from crdtmerge.coefficients import APPLIES_TO
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.errors import CorruptBlockError, MalformedError, StoreError
from crdtmerge.limits import BLOCK_BYTES, MANIFEST_BYTES_MAX
from crdtmerge.manifest import Manifest, Tensor, element_count, tensor_root
from crdtmerge.store.header import build
from crdtmerge.store.tensorfile import TensorFile

from .result import Result

MODEL: Final = "model.safetensors"
RECORD: Final = "result.crdtmerge"
CORRECTIONS: Final = "corrections.safetensors"
METADATA: Final = {"format": "pt"}
"""What the header of every merged model declares; libraries of the field look for it."""


def record_bytes(result: Result) -> bytes:
    """Return the content of a result's record file."""
    return result.digest + result.encoded


def read_record(path: Path) -> Result:
    """Read a result's record.

    Raises:
        StoreError: if it cannot be read.
        CorruptBlockError: if it is no longer what was written.
        MalformedError: if it was never a record.
    """
    try:
        if path.stat().st_size > 2 * MANIFEST_BYTES_MAX:
            raise MalformedError(f"{path} is too large for a result's record")
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    wanted, encoded = Digest(content[:DIGEST_BYTES]), content[DIGEST_BYTES:]
    got = digest(Domain.RESULT, encoded)
    if got != wanted:
        raise CorruptBlockError("the result's record", wanted=wanted, got=got, where=str(path))
    return Result.decode(encoded)


def verify_result(folder: Path) -> Result:
    """Check every byte of a published result against its record.

    Raises:
        CorruptBlockError: naming the tensor whose bytes are not the merged ones, or the record.
        MalformedError: if a file's header is not the one that the record asks for.
        StoreError: if a file cannot be read.
    """
    result = read_record(folder / RECORD)
    _verify(folder / MODEL, result.merged.tensors)
    if result.corrections is not None:
        _verify(folder / CORRECTIONS, corrections_of(result.corrections))
    return result


def corrections_of(payload: Manifest) -> tuple[Tensor, ...]:
    """Return the arrays of a payload of corrections that stand beside the model."""
    return tuple(tensor for tensor in payload.tensors if tensor.name != APPLIES_TO)


def _verify(path: Path, tensors: tuple[Tensor, ...]) -> None:
    header, _ = build([(t.name, t.dtype, t.shape) for t in tensors], METADATA)
    try:
        with path.open("rb") as model:
            if model.read(len(header)) != header:
                raise MalformedError(f"{path} has not the header that its record asks for")
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    with TensorFile(path) as file:
        for tensor in tensors:
            got = root_in_file(file, tensor.name)
            if got != tensor.root:
                raise CorruptBlockError(f"tensor {tensor.name}", wanted=tensor.root, got=got, where=str(path))


def root_in_file(file: TensorFile, name: str) -> Digest:
    """Return the root of a tensor as it stands in a safetensors file."""
    entry = file.tensors[name]
    size = element_count(entry.shape) * entry.dtype.itemsize
    blocks = [
        digest(Domain.BLOCK, file.read(name, begin, min(begin + BLOCK_BYTES, size)))
        for begin in range(0, size, BLOCK_BYTES)
    ]
    return tensor_root(entry.dtype, entry.shape, blocks)
