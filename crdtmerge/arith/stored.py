"""Elements as they lie in a store, not yet float64.

A sum over contributions reads each of its streams once. Decoding them first would write and read eight bytes
where four, or two, are stored; what can work on stored elements does, and everything else decodes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from crdtmerge.arith import compiled
from crdtmerge.arith.convert import decode
from crdtmerge.digest import Readable
from crdtmerge.dtypes import DType
from crdtmerge.errors import ParameterError

_KINDS: Final = {
    DType.F64: compiled.FLOAT64,
    DType.F32: compiled.FLOAT32,
    DType.BF16: compiled.BFLOAT16,
}


class Stored:
    """[n] elements of a floating type, read when they are first needed.

    Args:
        read: returns their bytes, little-endian; called once at most. They are not copied, and not to be
            changed meanwhile.
        dtype: their type.
        count: n.
    """

    __slots__ = ("_count", "_decoded", "_raw", "_read", "dtype")

    def __init__(self, read: Callable[[], Readable], dtype: DType, count: int) -> None:
        self._read, self.dtype, self._count = read, dtype, count
        self._raw: Readable | None = None
        self._decoded: Tensor | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> torch.Size:
        """[n]."""
        return torch.Size((self._count,))

    @property
    def raw(self) -> Readable:
        """The bytes.

        Raises:
            ParameterError: if they are not as many as announced.
        """
        if self._raw is None:
            raw = self._read()
            if len(raw) != self._count * self.dtype.itemsize:
                raise ParameterError(f"{len(raw)} bytes are not {self._count} elements of {self.dtype.code}")
            self._raw = raw
        return self._raw

    @property
    def fresh(self) -> bool:
        """Whether nobody has asked for float64 yet."""
        return self._decoded is None

    def decoded(self) -> Tensor:
        """Return the elements as [n] float64, decoded once; not to be changed.

        Raises:
            ParameterError: if the type is not floating, or the bytes are not as many as announced.
        """
        if self._decoded is None:
            self._decoded = decode(self.raw, self.dtype)
        return self._decoded


Values: TypeAlias = "Tensor | Stored"
"""[n] elements: float64, or as they are stored."""


class Change:
    """[n] differences of elements from a base, taken when they are first needed.

    Determinism: one subtraction for each element.

    Args:
        x: [n] elements.
        base: [n] elements.
    """

    __slots__ = ("_decoded", "base", "x")

    def __init__(self, x: Values, base: Values) -> None:
        self.x, self.base = x, base
        self._decoded: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> torch.Size:
        """[n]."""
        return self.x.shape

    @property
    def fresh(self) -> bool:
        """Whether nobody has asked for float64 yet."""
        return self._decoded is None

    def decoded(self) -> Tensor:
        """Return the differences as [n] float64, taken once; not to be changed."""
        if self._decoded is None:
            self._decoded = self._difference()
        return self._decoded

    def _difference(self) -> Tensor:
        loops, stream = compiled.kernels(), traced(self)
        if loops is None or stream is None:
            return decoded(self.x) - decoded(self.base)
        out = torch.empty(self.shape, dtype=torch.float64)
        loops.subtract(out.view(-1).numpy(), *stream[0])
        return out


Elements: TypeAlias = "Values | Change"
"""[n] elements: float64, or on the way to it."""


def decoded(x: Elements) -> Tensor:
    """Return [n] float64."""
    return x if isinstance(x, Tensor) else x.decoded()


def located(x: Elements) -> tuple[int, int, object] | None:
    """Return address and kind of the elements, and what keeps them there; None if no loop reads them."""
    if isinstance(x, Stored) and x.fresh:
        kind = _KINDS.get(x.dtype)
        if kind is None:
            return None
        array = np.frombuffer(x.raw, np.uint8)
        address = array.__array_interface__["data"][0]
        return None if address % x.dtype.itemsize else (address, kind, array)
    tensor = decoded(x)
    return (tensor.data_ptr(), compiled.FLOAT64, tensor) if plain(tensor) else None


def traced(x: Elements) -> tuple[tuple[int, int, int, int], object] | None:
    """Return address and kind of the elements and of the base to subtract from them (0 if there is none).

    And what keeps them there. None if there are none, or no loop reads them.
    """
    if not len(x):
        return None
    if isinstance(x, Change) and x.fresh:
        place, base = located(x.x), located(x.base)
        if place is None or base is None or x.x.shape != x.base.shape:
            return None
        return (place[0], place[1], base[0], base[1]), (place, base)
    place = located(x)
    return None if place is None else ((place[0], place[1], 0, 0), place)


def plain(x: Tensor) -> bool:
    """Whether a loop can read the tensor: float64, one element behind the other, not on a device."""
    return x.dtype == torch.float64 and x.is_cpu and x.is_contiguous()
