"""The quantile function of the normal distribution, the same on every machine.

Rational functions of degree 7 by Wichura (1988), *Algorithm AS 241: The percentage points of the normal
distribution*, Applied Statistics 37, PPND16: one in the middle of the distribution, two for its tails, where
their argument is √(-log p). Only single additions, multiplications, divisions and the canonical log and
square root occur; the relative error is below 2^-48.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from crdtmerge.arith.elementwise import sqrt
from crdtmerge.arith.functions import log
from crdtmerge.errors import ParameterError

_Coefficients = tuple[float, ...]

_MIDDLE_HALF: Final = 0.425
_MIDDLE_SQUARE: Final = 0.180625
"""The middle is |p - ½| <= 0.425, where the argument is 0.425² - (p - ½)²."""

_NEAR: Final = 1.6
_FAR: Final = 5.0
"""Near tails are those with √(-log p) <= 5; the argument is that less 1.6, in far tails less 5."""

# Numerators and denominators, highest power first.
_MIDDLE: Final[tuple[_Coefficients, _Coefficients]] = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
_NEAR_TAIL: Final[tuple[_Coefficients, _Coefficients]] = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
_FAR_TAIL: Final[tuple[_Coefficients, _Coefficients]] = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)


def normal_quantile(p: Tensor) -> Tensor:
    """Return the x below which a standard normal variable lies with probability p, [n] to [n].

    Args:
        p: [n] float64 in (0, 1).

    Raises:
        ParameterError: if an element is not in (0, 1).
    """
    if not len(p):
        return p.clone()
    if not (p.amin().item() > 0 and p.amax().item() < 1):
        raise ParameterError("normal_quantile: wanted 0 < p < 1")
    q = p - 0.5
    argument = q * q
    argument = (argument * -1.0).add_(_MIDDLE_SQUARE)
    result = q * _ratio(_MIDDLE, argument)
    places = (q.abs() > _MIDDLE_HALF).nonzero().flatten()
    side = q[places]
    outside = torch.where(side < 0.0, p[places], (p[places] * -1.0).add_(1.0))
    depth = sqrt(log(outside).mul_(-1.0))
    size = torch.where(depth <= _FAR, _ratio(_NEAR_TAIL, depth - _NEAR), _ratio(_FAR_TAIL, depth - _FAR))
    result[places] = torch.where(side < 0.0, size * -1.0, size)
    return result


def _ratio(coefficients: tuple[_Coefficients, _Coefficients], x: Tensor) -> Tensor:
    above, below = (_polynomial(row, x) for row in coefficients)
    return above / below


def _polynomial(coefficients: _Coefficients, x: Tensor) -> Tensor:
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value *= x
        value += coefficient
    return value
