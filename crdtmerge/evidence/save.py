"""Evidence written down, bound to the weights that it describes.

A safetensors file whose metadata name the weights by the digest of their tensors: the one that every manifest
of them has (`Manifest.model`), however they are cut into files. Who contributes the file beside other weights
is told so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from crdtmerge.digest import Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import ParameterError, UsageError
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Kind, Manifest, tensor_root
from crdtmerge.manifest import Tensor as Entry

from .kinds import KINDS, WEIGHTS

Weights = Mapping[str, Tensor] | Path | str
"""A state dict, a safetensors file, or a folder with a model's or an adapter's."""


def save(path: Path | str, *evidence: Mapping[str, Tensor], weights: Weights) -> Digest:
    """Write evidence to a file, bound to weights, and return the digest of these.

    Args:
        path: of the file.
        evidence: what the functions of this package return, in any number.
        weights: exactly what will be contributed with it: names, dtypes and values.

    Raises:
        ParameterError: if a name is there twice, or is of no known kind.
        UsageError: if the weights are nowhere to be found.
    """
    tensors: dict[str, Tensor] = {}
    for part in evidence:
        for name, tensor in part.items():
            if name.partition("/")[0] not in KINDS:
                raise ParameterError(f"{name} is of no known kind of evidence: {', '.join(KINDS)}")
            if name in tensors:
                raise ParameterError(f"evidence {name} is there twice")
            tensors[name] = tensor.contiguous()
    named = model_digest(weights)
    safetensors.torch.save_file(tensors, path, metadata={WEIGHTS: named.hex()})
    return named


def model_digest(weights: Weights) -> Digest:
    """Return the digest of a model's tensors, as `Manifest.model` of any contribution of them.

    Raises:
        UsageError: if there is no safetensors file.
    """
    entries = [_entry(name, tensor) for name, tensor in _tensors(weights)]
    ordered = tuple(sorted(entries, key=lambda entry: entry.name.encode()))
    return Manifest(Kind.FULL, None, ordered).model


def _tensors(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    if isinstance(weights, Mapping):
        yield from weights.items()
        return
    path = Path(weights)
    found = [sorted(path.glob(f"{name}.safetensors")) for name in ("model*", "adapter_model")]
    files = next(filter(None, found), []) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UsageError(f"{path} holds no safetensors file: save the weights first")
    for file in files:
        with safetensors.safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                yield name, opened.get_tensor(name)


def _entry(name: str, tensor: Tensor) -> Entry:
    # One tensor as the format writes it: its own code for the dtype, its own order of bytes.
    raw_file: bytes = safetensors.torch.save({name: tensor.detach().contiguous()})
    ((_, row),) = safetensors.deserialize(raw_file)  # type: ignore[no-untyped-call]
    raw, dtype, shape = memoryview(row["data"]), DType.of(row["dtype"]), tuple(row["shape"])
    starts = range(0, len(raw), BLOCK_BYTES)
    blocks = [digest(Domain.BLOCK, raw[start : start + BLOCK_BYTES]) for start in starts]
    return Entry(name, dtype, shape, tensor_root(dtype, shape, blocks))
