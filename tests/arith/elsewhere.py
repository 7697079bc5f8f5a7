"""A device that every machine has: it computes as the CPU does, and minds in whose memory a tensor lies.

Within `elsewhere`, tensors can be made on the device "meta" and hold numbers. Each wraps a tensor of the CPU
that computes for it, so results have the CPU's bits; what a GPU refuses, or mends behind one's back, raises
`MixedDevicesError`: an operation on tensors with dimensions that are not all in one memory. That includes
indices, which torch brings along silently, and numpy, which sees the CPU's memory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE: Final = torch.device("meta")
"""The one device beside the CPU that torch lets be named where there is no other."""

_MOVES: Final = {"aten::copy_", "aten::_to_copy"}
"""From one memory to another is what these are for."""


class MixedDevicesError(AssertionError):
    """An operation was given tensors that lie in several memories."""


class There(Tensor):
    """A tensor on the device; ``here`` computes for it."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        made: There = Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=DEVICE
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own stub leaves ``func`` out
        cls,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return compute(func, args, kwargs or {})

    def tolist(self) -> list[Any]:
        return self.here.tolist()


@contextmanager
def elsewhere() -> Iterator[None]:
    """Within it there is a device; what is made without naming one is on the CPU, as ever."""
    tensor = torch.tensor

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        return tensor(*args, **kwargs).to(device)  # torch would make one of "meta" without its numbers

    with patch.object(torch, "tensor", made), _Computed():  # type: ignore[no-untyped-call]
        yield


class _Computed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees operations on no tensor of the device, such as those that make one."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run an operation where its tensors are, or where it is told to."""
    name = func._schema.name
    tensors = [leaf for leaf in _leaves([*args, *kwargs.values()]) if isinstance(leaf, Tensor)]
    there = any(isinstance(tensor, There) for tensor in tensors[: 1 if name == "aten::copy_" else None])
    if len({type(tensor) for tensor in tensors if tensor.ndim}) > 1 and name not in _MOVES:
        where = [(tensor.device.type, tuple(tensor.shape)) for tensor in tensors]
        raise MixedDevicesError(f"{name} was given tensors in several memories: {where}")
    inner = {key: _here(value) for key, value in kwargs.items()}
    if inner.get("device") is not None:
        there = torch.device(inner["device"]) == DEVICE
        inner["device"] = torch.device("cpu")
    result = func(*map(_here, args), **inner)
    if not there:
        return result
    changed = {id(tensor.here): tensor for tensor in tensors if isinstance(tensor, There)}
    return _there(result, changed)


def _leaves(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _here(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_here(part) for part in value]
    return value.here if isinstance(value, There) else value


def _there(made: Any, changed: Mapping[int, There]) -> Any:
    if isinstance(made, Tensor):
        return changed.get(id(made)) if id(made) in changed else There(made)
    return type(made)([_there(part, changed) for part in made]) if isinstance(made, list | tuple) else made
