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
from crdtmerge.arith.convert import KINDS, decode
from crdtmerge.arith.pending import Elements, Pending, decoded, plain
from crdtmerge.digest import Readable
from crdtmerge.dtypes import DType
from crdtmerge.errors import ParameterError

_KINDS: Final = {DType.F64: compiled.FLOAT64} | KINDS


class Stored(Pending):
    """[n] elements of a floating type, read when they are first needed.

    Args:
        read: returns their bytes, little-endian; called once at most. They are not copied, and not to be
            changed meanwhile.
        dtype: their type.
        count: n.
    """

    __slots__ = ("_place", "_raw", "_read", "dtype")

    def __init__(self, read: Callable[[], Readable], dtype: DType, count: int) -> None:
        super().__init__(torch.Size((count,)))
        self._read, self.dtype = read, dtype
        self._raw: Readable | None = None
        self._place: tuple[int, int, object] | None = None

    @property
    def raw(self) -> Readable:
        """The bytes.

        Raises:
            ParameterError: if they are not as many as announced.
        """
        if self._raw is None:
            raw = self._read()
            if len(raw) != len(self) * self.dtype.itemsize:
                raise ParameterError(f"{len(raw)} bytes are not {len(self)} elements of {self.dtype.code}")
            self._raw = raw
        return self._raw

    def located(self) -> tuple[int, int, object] | None:
        """Return what `located` does, found once: one base is that of many differences."""
        kind = _KINDS.get(self.dtype)
        if self._place is None and kind is not None:
            array = np.frombuffer(self.raw, np.uint8)
            self._place = array.__array_interface__["data"][0], kind, array
        if self._place is None or self._place[0] % self.dtype.itemsize:
            return None
        return self._place

    def _compute(self) -> Tensor:
        return decode(self.raw, self.dtype)


Values: TypeAlias = "Tensor | Stored"
"""[n] elements: float64, or as they are stored."""


def located(x: Elements) -> tuple[int, int, object] | None:
    """Return address and kind of the elements, and what keeps them there; None if no loop reads them."""
    if isinstance(x, Stored) and x.fresh:
        return x.located()
    tensor = decoded(x)
    return (tensor.data_ptr(), compiled.FLOAT64, tensor) if plain(tensor) else None
