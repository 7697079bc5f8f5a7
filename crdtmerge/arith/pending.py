"""Elements on the way to float64: described, and computed when somebody asks for them.

What reads or writes whole arrays is bound by memory. So operations can be left pending until it is known what
becomes of their result: a sum may be rounded into where it is stored without ever being an array of float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from crdtmerge.arith import compiled


class Pending(ABC):
    """[n] elements, float64 once they are asked for.

    Attributes:
        shape: [n], or that of matrices where these are computed with.
    """

    __slots__ = ("_decoded", "shape")

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape
        self._decoded: Tensor | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def fresh(self) -> bool:
        """Whether nobody has asked for float64 yet."""
        return self._decoded is None

    def decoded(self) -> Tensor:
        """Return the elements as float64, computed once; not to be changed."""
        if self._decoded is None:
            self._decoded = self._compute()
        return self._decoded

    @abstractmethod
    def _compute(self) -> Tensor:
        """Return the elements as float64."""


class Target(NamedTuple):
    """Where a loop writes: the fields of `compiled.TARGET`."""

    address: int
    kind: int
    base: int = 0
    base_kind: int = 0
    factor: float = 1.0


class Result(Pending):
    """What an operation on streams gives, left to be written where it belongs."""

    __slots__ = ()

    @abstractmethod
    def write(self, loops: ModuleType, target: Target) -> bool | None:
        """Have a loop write it.

        Returns:
            Whether all that was written is finite; None if no loop can, and nothing was written.
        """

    @abstractmethod
    def _by_torch(self) -> Tensor:
        """Return the result as its definition says."""

    def _compute(self) -> Tensor:
        loops = compiled.kernels()
        if loops is not None and self.shape.numel():
            out = torch.empty(self.shape, dtype=torch.float64)
            if self.write(loops, Target(out.data_ptr(), compiled.FLOAT64)) is not None:
                return out
        return self._by_torch()


Elements: TypeAlias = "Tensor | Pending"
"""[n] elements: float64, or on the way to it."""


def decoded(x: Elements) -> Tensor:
    """Return [n] float64."""
    return x if isinstance(x, Tensor) else x.decoded()


def plain(x: Tensor) -> bool:
    """Whether a loop can read the tensor: float64, one element behind the other, not on a device."""
    return x.dtype == torch.float64 and x.is_cpu and x.is_contiguous()
