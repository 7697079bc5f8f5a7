"""What a contribution is: a list of named tensors, each known by the digest of its content.

    manifest ── contribution digest = H(canonical manifest)
      ├─ kind, base, weight, metrics, metadata
      └─ tensors: (name, dtype, shape, root), ascending by the UTF-8 bytes of the name
                                      └─ root = H(dtype, shape, bytes, block digests)
                                                  └─ block = 1 MiB of the tensor's raw bytes

Blocks restart at each tensor, so a header that grows, a tensor that moves in its file or a file that is
sharded otherwise changes no digest: a frozen layer in a hundred fine-tunes is one list of blocks.

Equal models with equal declarations have equal digests, whoever contributes them and from whatever file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import pairwise
from typing import Final

from crdtmerge import canon
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain, digest
from crdtmerge.dtypes import DType
from crdtmerge.errors import LimitError, MalformedError
from crdtmerge.limits import (
    BLOCK_BYTES,
    DIMENSIONS_MAX,
    MANIFEST_BYTES_MAX,
    METADATA_BYTES_MAX,
    METADATA_ENTRIES_MAX,
    TENSOR_BYTES_MAX,
    TENSOR_NAME_BYTES_MAX,
    TENSORS_MAX,
)
from crdtmerge.rational import is_decimal

VERSION: Final = 1


class Kind(Enum):
    """What the tensors of a manifest are."""

    BASE = "base"
    """The model that everybody fine-tunes; not a contribution."""
    FULL = "full"
    """A whole checkpoint."""
    DELTA = "delta"
    """Differences from the base; tensors that are left out did not change."""
    LORA = "lora"
    """Low-rank factors of differences from the base, as `factors` says."""
    COEFFICIENTS = "coefficients"
    """What a search published for a set of contributions; not a contribution (`crdtmerge.coefficients`)."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named tensor of a manifest."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    root: Digest

    @property
    def elements(self) -> int:
        """Number of elements."""
        return element_count(self.shape)

    @property
    def bytes(self) -> int:
        """Size of the raw content in bytes."""
        return self.elements * self.dtype.itemsize

    @property
    def blocks(self) -> int:
        """Number of blocks that the content is cut into."""
        return -(-self.bytes // BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class Factor:
    """A low-rank difference: ``scale · B @ A`` is added to the base's tensor ``target``.

    ``a`` (shape [rank, in]) and ``b`` (shape [out, rank]) are names of tensors of the same manifest;
    ``scale`` is the exact ratio alpha / rank as (numerator, denominator).
    """

    target: str
    a: str
    b: str
    scale: tuple[int, int]


def element_count(shape: Sequence[int]) -> int:
    """Return the product of ``shape``, refusing what no machine could hold.

    Raises:
        LimitError: if there are too many dimensions, or the product exceeds TENSOR_BYTES_MAX.
        MalformedError: if a dimension is negative.
    """
    if len(shape) > DIMENSIONS_MAX:
        raise LimitError(f"a tensor of {len(shape)} dimensions, at most {DIMENSIONS_MAX} are accepted")
    count = 1
    for size in shape:
        if size < 0:
            raise MalformedError(f"a dimension of {size} elements")
        count *= size
        if max(size, count) > TENSOR_BYTES_MAX:  # a dimension of 0 hides no other
            raise LimitError(f"a tensor of shape {list(shape)} exceeds {TENSOR_BYTES_MAX} elements")
    return count


def tensor_root(dtype: DType, shape: Sequence[int], blocks: Sequence[Digest]) -> Digest:
    """Return the digest of a tensor's content.

    Args:
        dtype, shape: as in the manifest.
        blocks: digests of its blocks in order, as many as its size asks for.

    Raises:
        MalformedError: if the number of blocks does not fit the size.
    """
    size = element_count(shape) * dtype.itemsize
    if len(blocks) != -(-size // BLOCK_BYTES):
        raise MalformedError(f"{len(blocks)} blocks for a tensor of {size} bytes")
    return digest(Domain.TENSOR, canon.encode([dtype.code, list(shape), size, b"".join(blocks)]))


@dataclass(frozen=True)
class Manifest:
    """An immutable description of a model; see the top of the file.

    Attributes:
        kind: what the tensors are.
        base: digest of the base's manifest; None for a base, or in a federation without one.
        tensors: ascending by the UTF-8 bytes of their names.
        factors: for kind LORA, ascending by target.
        evidence: tensors that describe the contribution rather than being it (a diagonal Fisher, a Gram
            matrix), in the same form.
        weight: the author's declared weight, canonical decimal text.
        metrics: (name, canonical decimal) pairs, ascending by name.
        metadata: (key, value) text pairs, ascending by key.
    """

    kind: Kind
    base: Digest | None
    tensors: tuple[Tensor, ...]
    factors: tuple[Factor, ...] = ()
    evidence: tuple[Tensor, ...] = ()
    weight: str = "1"
    metrics: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.tensors:
            raise MalformedError("a manifest without tensors")
        if len(self.tensors) + len(self.evidence) > TENSORS_MAX:
            raise LimitError(f"a manifest of {len(self.tensors)} tensors, at most {TENSORS_MAX} are accepted")
        if self.kind is Kind.BASE and self.base is not None:
            raise MalformedError("a base that has a base")
        if self.kind in (Kind.DELTA, Kind.LORA) and self.base is None:
            raise MalformedError(f"a contribution of kind {self.kind.value} needs a base")
        for tensors in (self.tensors, self.evidence):
            _check_ascending("tensors", [t.name for t in tensors])
            for tensor in tensors:
                _check_text("tensor name", tensor.name, TENSOR_NAME_BYTES_MAX)
                if element_count(tensor.shape) * tensor.dtype.itemsize > TENSOR_BYTES_MAX:
                    raise LimitError(f"tensor {tensor.name} exceeds {TENSOR_BYTES_MAX} bytes")
                if len(tensor.root) != DIGEST_BYTES:
                    raise MalformedError(f"tensor {tensor.name} has a root of {len(tensor.root)} bytes")
        self._check_factors()
        if not is_decimal(self.weight):
            raise MalformedError(f"weight {self.weight!r} is no canonical decimal")
        for pairs in (self.metrics, self.metadata):
            if len(pairs) > METADATA_ENTRIES_MAX:
                raise LimitError(f"{len(pairs)} entries of metadata, at most {METADATA_ENTRIES_MAX}")
            _check_ascending("metadata", [key for key, _ in pairs])
            for key, value in pairs:
                _check_text("metadata key", key, METADATA_BYTES_MAX)
                _check_text("metadata value", value, METADATA_BYTES_MAX, empty=True)
        for name, value in self.metrics:
            if not is_decimal(value):
                raise MalformedError(f"metric {name} = {value!r} is no canonical decimal")

    def _check_factors(self) -> None:
        if (self.kind is Kind.LORA) != bool(self.factors):
            raise MalformedError("factors belong to contributions of kind lora, and to no other")
        _check_ascending("factors", [f.target for f in self.factors])
        by_name = self.by_name
        for factor in self.factors:
            a, b = by_name.get(factor.a), by_name.get(factor.b)
            if a is None or b is None:
                raise MalformedError(f"factors of {factor.target} name tensors that are not there")
            if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1]:
                raise MalformedError(f"factors of {factor.target} have shapes {a.shape} and {b.shape}")
            if factor.scale[1] <= 0:
                raise MalformedError(f"scale of {factor.target} has no positive denominator")

    @cached_property
    def by_name(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def evidence_by_name(self) -> dict[str, Tensor]:
        """The evidence by name."""
        return {tensor.name: tensor for tensor in self.evidence}

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return canon.encode(
            [
                VERSION,
                self.kind.value,
                self.base,
                _tensor_values(self.tensors),
                _factor_values(self.factors),
                _tensor_values(self.evidence),
                self.weight,
                self.metrics,
                self.metadata,
            ]
        )

    @cached_property
    def digest(self) -> Digest:
        """The digest by which this manifest, and so the contribution, is known."""
        return digest(Domain.MANIFEST, self.encoded)

    @cached_property
    def model(self) -> Digest:
        """The digest of the tensors alone: equal models have it in common, whatever is declared."""
        return digest(Domain.MODEL, canon.encode(_tensor_values(self.tensors)))

    @cached_property
    def schema(self) -> Digest:
        """The digest of the names, dtypes and shapes of the tensors."""
        rows: list[canon.Value] = [[t.name, t.dtype.code, t.shape] for t in self.tensors]
        return digest(Domain.SCHEMA, canon.encode(rows))

    @property
    def content_bytes(self) -> int:
        """Size of the content of all tensors and evidence in bytes."""
        return sum(t.bytes for t in self.tensors + self.evidence)

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Parse a manifest from outside.

        Raises:
            MalformedError: if it is not canonical, or breaks a rule of this file.
            LimitError: if it exceeds a limit.
        """
        value = canon.decode(data, bytes_max=MANIFEST_BYTES_MAX)
        version, kind, base, tensors, factors, evidence, weight, metrics, metadata = canon.array(value, 9)
        if canon.integer(version) != VERSION:
            raise MalformedError(f"a manifest of version {version!r}, this software reads {VERSION}")
        try:
            known = Kind(kind)
        except ValueError as error:
            raise MalformedError(f"a manifest of unknown kind {kind!r}") from error
        manifest = cls(
            kind=known,
            base=None if base is None else Digest(canon.octets(base, DIGEST_BYTES)),
            tensors=_tensors(tensors),
            factors=tuple(_factor(row) for row in canon.array(factors)),
            evidence=_tensors(evidence),
            weight=canon.text(weight),
            metrics=_pairs(metrics),
            metadata=_pairs(metadata),
        )
        if manifest.encoded != data:
            raise MalformedError("a manifest that re-encodes to other bytes")
        return manifest


def _tensor_values(tensors: Iterable[Tensor]) -> list[canon.Value]:
    return [[t.name, t.dtype.code, list(t.shape), t.root] for t in tensors]


def _factor_values(factors: Iterable[Factor]) -> list[canon.Value]:
    return [[f.target, f.a, f.b, list(f.scale)] for f in factors]


def _check_ascending(what: str, names: Sequence[str]) -> None:
    raw = [name.encode() for name in names]
    for before, after in pairwise(raw):
        if before >= after:
            raise MalformedError(f"{what} are not in ascending order, or twice: {after.decode()!r}")


def _check_text(what: str, text: str, bytes_max: int, *, empty: bool = False) -> None:
    size = len(text.encode())
    if size > bytes_max or (not size and not empty):
        raise LimitError(f"{what} of {size} bytes, between 1 and {bytes_max} are accepted")


def _tensors(value: canon.Value) -> tuple[Tensor, ...]:
    return tuple(_tensor(row) for row in canon.array(value))


def _tensor(value: canon.Value) -> Tensor:
    name, code, shape, root = canon.array(value, 4)
    try:
        dtype = DType.of(canon.text(code))
    except KeyError as error:
        raise MalformedError(f"tensor {name!r} has the unknown dtype {code!r}") from error
    sizes = tuple(canon.integer(size, 0) for size in canon.array(shape))
    return Tensor(canon.text(name), dtype, sizes, Digest(canon.octets(root, DIGEST_BYTES)))


def _factor(value: canon.Value) -> Factor:
    target, a, b, scale = canon.array(value, 4)
    numerator, denominator = canon.array(scale, 2)
    ratio = canon.integer(numerator), canon.integer(denominator, 1)
    return Factor(canon.text(target), canon.text(a), canon.text(b), ratio)


def _pairs(value: canon.Value) -> tuple[tuple[str, str], ...]:
    pairs = [canon.array(row, 2) for row in canon.array(value)]
    return tuple((canon.text(key), canon.text(content)) for key, content in pairs)
