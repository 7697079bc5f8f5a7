"""Elementwise operations on float64 tensors: those that are the same on every machine, and mends.

IEEE 754 fixes every bit of a single + − × ÷ on two tensors, and torch's operators do just that: use
them freely. What looks elementwise and is not is replaced here. Three things to remember:

* one operator at a time: ``x + y * c`` is two roundings, while ``add(x, y, alpha=c)`` and ``addcmul``
  contract to one on some processors;
* ``torch.sqrt`` goes through a vendor's library on x86 and rounds wrongly in 0.7 % of cases;
* which zero a maximum of 0.0 and -0.0 returns is the processor's choice, so results here have no -0.0.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crdtmerge.errors import ParameterError


def sqrt(x: Tensor) -> Tensor:
    """Return the correctly rounded square roots of ``x`` >= 0, [n] to [n]; -0.0 stays -0.0.

    Raises:
        ParameterError: if an element is negative.
    """
    try:
        with np.errstate(invalid="raise"):
            return torch.from_numpy(np.sqrt(x.cpu().numpy())).to(x.device)
    except FloatingPointError:
        raise ParameterError("sqrt: wanted x >= 0, got a negative element") from None


def positive_zero(x: Tensor) -> Tensor:
    """Return ``x`` with every -0.0 replaced by 0.0."""
    return x + 0.0


def sign(x: Tensor) -> Tensor:
    """Return -1.0, 0.0 or 1.0 by the sign of each element; never -0.0."""
    return torch.sign(x).add_(0.0)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """Return the larger of each two elements; never -0.0."""
    return torch.maximum(x, y).add_(0.0)


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """Return the smaller of each two elements; never -0.0."""
    return torch.minimum(x, y).add_(0.0)


def clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Return ``x`` confined to [low, high]; never -0.0.

    Raises:
        ParameterError: if ``low`` exceeds ``high``.
    """
    if not low <= high:
        raise ParameterError(f"clamp: wanted low <= high, got [{low!r}, {high!r}]")
    return torch.clamp(x, low, high).add_(0.0)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """Return ``x`` where ``mask`` is 1.0 and 0.0 where it is 0.0; never -0.0."""
    return (x * mask).add_(0.0)
