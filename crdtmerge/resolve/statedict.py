"""Between torch state dicts and the raw little-endian bytes that everything else works on."""

from __future__ import annotations

from collections.abc import Mapping
from mmap import mmap
from typing import Final

import torch

from crdtmerge.dtypes import DType
from crdtmerge.errors import MalformedError, UsageError

_TORCH: Final = {
    DType.F64: torch.float64,
    DType.F32: torch.float32,
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.F8_E4M3: torch.float8_e4m3fn,
    DType.F8_E5M2: torch.float8_e5m2,
    DType.I64: torch.int64,
    DType.I32: torch.int32,
    DType.I16: torch.int16,
    DType.I8: torch.int8,
    DType.U8: torch.uint8,
    DType.BOOL: torch.bool,
}
_DTYPE: Final = {torch_dtype: dtype for dtype, torch_dtype in _TORCH.items()}

Raw = tuple[DType, tuple[int, ...], bytes]
"""An element type, a shape and row-major little-endian bytes."""


def to_raw(state: Mapping[str, torch.Tensor]) -> dict[str, Raw]:
    """Return the bytes of a state dict's tensors, copied to the CPU.

    Raises:
        UsageError: if a value is no dense tensor of a supported dtype.
    """
    raw: dict[str, Raw] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            raise UsageError(f"{name} is no dense tensor: got {type(tensor).__name__}")
        dtype = _DTYPE.get(tensor.dtype)
        if dtype is None:
            known = ", ".join(d.code for d in DType)
            raise UsageError(
                f"{name} has dtype {tensor.dtype}, which is not supported; supported are {known}"
            )
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        raw[name] = (dtype, tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes())
    return raw


def from_raw(dtype: DType, shape: tuple[int, ...], data: bytes | bytearray | mmap) -> torch.Tensor:
    """Return a tensor with this content; memory that can be written is used in place.

    Raises:
        MalformedError: if the size does not fit.
    """
    own = bytearray(data) if isinstance(data, bytes) else data
    flat = torch.frombuffer(own, dtype=_TORCH[dtype]) if len(own) else torch.empty(0, dtype=_TORCH[dtype])
    if flat.numel() != torch.Size(shape).numel():
        raise MalformedError(f"{len(own)} bytes for a tensor of shape {list(shape)}")
    return flat.reshape(shape)
