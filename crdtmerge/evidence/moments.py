"""Adam's second moment, out of the optimizer that trained the model.

    v / (1 - β₂ᵗ)      the mean square of each weight's gradient over the last 1 / (1 - β₂) steps

A stand-in for the Fisher information that costs nothing: it is there when training ends, unless the optimizer
is thrown away. (It squares a batch's gradient, not an example's, so it is smaller where examples disagree;
the same for everybody who trains with like batches.)

*Cost*: none. As large as the model in float32, or with row and column sums about a thousandth of it.

*Privacy*: as `fisher`; sums tell far less.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from crdtmerge.errors import ParameterError


def adam_moments(model: nn.Module, optimizer: Optimizer, *, factored: bool = False) -> dict[str, Tensor]:
    """Return Adam's bias-corrected second moments, named for the model's parameters, float32.

    Args:
        model: whose parameters the optimizer moved.
        optimizer: Adam, AdamW or one that keeps ``exp_avg_sq`` and ``step`` as they do.
        factored: of matrices give row and column sums, ``adam.v.row`` and ``adam.v.col``, which stand for
            their product over the total; all else comes whole, as ``adam.v``.

    Raises:
        ParameterError: if the optimizer has no second moments of the model: it never stepped, or is of
            another kind.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    said: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if parameter not in names or "exp_avg_sq" not in state:
                continue
            beta, steps = float(group["betas"][1]), int(state["step"])
            moment = state["exp_avg_sq"].detach().double().cpu() / (1.0 - beta**steps)
            said |= _named(names[parameter], moment, factored and moment.dim() == 2)
    if not said:
        raise ParameterError(
            "this optimizer holds no second moments of this model: take it after training, from Adam or AdamW"
        )
    return said


def _named(name: str, moment: Tensor, factored: bool) -> dict[str, Tensor]:
    if not factored:
        return {f"adam.v/{name}": moment.to(torch.float32)}
    rows, columns = moment.sum(1), moment.sum(0)
    return {f"adam.v.row/{name}": rows.to(torch.float32), f"adam.v.col/{name}": columns.to(torch.float32)}
