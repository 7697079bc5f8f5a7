"""The element types of tensors, named as in the safetensors format.

Only facts about storage stand here, no arithmetic: the store, manifests and the wire need to know how
long a tensor is without importing a tensor library.
"""

from __future__ import annotations

from enum import Enum


class DType(Enum):
    """An element type: its code in files and manifests, its size, and whether it is averaged.

    Attributes:
        code: name in a safetensors header.
        itemsize: bytes per element.
        floating: whether merging computes with it; all others pass through unchanged.
    """

    F64 = ("F64", 8, True)
    F32 = ("F32", 4, True)
    F16 = ("F16", 2, True)
    BF16 = ("BF16", 2, True)
    F8_E4M3 = ("F8_E4M3", 1, True)
    F8_E5M2 = ("F8_E5M2", 1, True)
    I64 = ("I64", 8, False)
    I32 = ("I32", 4, False)
    I16 = ("I16", 2, False)
    I8 = ("I8", 1, False)
    U8 = ("U8", 1, False)
    BOOL = ("BOOL", 1, False)

    def __init__(self, code: str, itemsize: int, floating: bool) -> None:
        self.code = code
        self.itemsize = itemsize
        self.floating = floating

    @classmethod
    def of(cls, code: str) -> DType:
        """Return the type with this code.

        Raises:
            KeyError: if there is none.
        """
        return cls[code]
