"""Arithmetic whose bits are the same everywhere."""

from torch import Tensor

__all__ = ["Tensor"]
