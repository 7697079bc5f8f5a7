"""Elements as they lie in a store, not yet float64.

A sum over contributions reads each of its streams once. Decoding them first would write and read eight bytes
where four, or two, are stored; what can work on stored elements does, and everything else decodes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from crdtmerge.arith.convert import decode
from crdtmerge.digest import Readable
from crdtmerge.dtypes import DType
from crdtmerge.errors import ParameterError

_KINDS = {DType.F64: 0, DType.F32: 1, DType.BF16: 2}
"""What compiled loops call the types that they read; see `kernels`."""


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

    def decoded(self) -> Tensor:
        """Return the elements as [n] float64, decoded once; not to be changed.

        Raises:
            ParameterError: if the type is not floating, or the bytes are not as many as announced.
        """
        if self._decoded is None:
            self._decoded = decode(self.raw, self.dtype)
        return self._decoded


Elements: TypeAlias = "Tensor | Stored"
"""[n] elements: float64, or as they are stored."""


def decoded(x: Elements) -> Tensor:
    """Return [n] float64."""
    return x.decoded() if isinstance(x, Stored) else x


def located(x: Elements) -> tuple[int, int, object] | None:
    """Return address and kind of the elements, and what keeps them there; None if no loop reads them."""
    if isinstance(x, Stored) and x._decoded is None:
        kind = _KINDS.get(x.dtype)
        if kind is None:
            return None
        array = np.frombuffer(x.raw, np.uint8)
        address = array.__array_interface__["data"][0]
        return None if address % x.dtype.itemsize else (address, kind, array)
    tensor = decoded(x)
    return None if not tensor.is_cpu or not tensor.is_contiguous() else (tensor.data_ptr(), 0, tensor)
