"""Gram matrices of what goes into linear layers: enough to know how a layer answers, without the data.

    G = 1/N Σ x·xᵀ      over all inputs x of the layer, padding left out

Hooks on the layers watch an ordinary run of the model. Layers that keep their inputs in the first dimension
of their weights (GPT-2's ``Conv1D``) give ``gram.first``. Of norm layers the squares of normalised inputs are
summed (``feat.sq``).

*Cost*: one forward pass over the examples, and in·in multiplications for each input. Memory and size of the
evidence: in·(in+1)/2 float32 for each layer, held in float64 while it grows; layers with the same input
(query, key, value) give the same bytes, which are stored and sent once. Widest layers may bring the diagonal
alone.

*Privacy*: second moments of activations. With fewer inputs than dimensions their span is the span of the
data: take ten times as many, and leave out layers whose inputs are one-hot. ``gram.n`` tells how many there
were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from crdtmerge.arith.linear import pack
from crdtmerge.errors import ParameterError


class GramCollector:
    """Watches a model while it runs, and says afterwards what went into its layers; a context manager."""

    def __init__(self, model: nn.Module, *, diagonal: Callable[[str], bool] = lambda _: False) -> None:
        """Prepare to watch all linear and norm layers of ``model``.

        Args:
            model: whose parameters' names the evidence gets.
            diagonal: from a weight's name to whether the diagonal of its Gram matrix will do; of layers with
                inputs in the first dimension it never does.
        """
        self._layers: dict[str, tuple[nn.Module, bool]] = {}
        for name, module in model.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor) and (_is_linear(module) or _is_norm(module)):
                self._layers[f"{name}.weight" if name else "weight"] = (module, _is_norm(module))
        self._diagonal = diagonal
        self._squares: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._mask: Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> GramCollector:
        for name, (module, norm) in self._layers.items():
            take = self._take_normalised if norm else self._take_input
            self._handles.append(module.register_forward_pre_hook(_hook(take, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @contextmanager
    def counting(self, mask: Tensor) -> Iterator[None]:
        """Within this, count only inputs where ``mask`` (an attention mask, [batch, positions]) is not 0."""
        self._mask = mask.bool()
        try:
            yield
        finally:
            self._mask = None

    def evidence(self) -> dict[str, Tensor]:
        """Return what was seen, float32: Gram matrices or diagonals, means, squares of norms, and counts.

        Raises:
            ParameterError: if no layer was run.
        """
        if not self._counts:
            raise ParameterError("no linear layer was run: run the model inside the `with` block")
        said: dict[str, Tensor] = {}
        for name, count in self._counts.items():
            module, norm = self._layers[name]
            said[f"gram.n/{name}"] = torch.tensor(count)
            squares = self._squares[name].cpu()
            if norm:
                said[f"feat.sq/{name}"] = squares.float()
                continue
            mean, first = squares / count, _inputs_first(module)
            if mean.dim() == 2:
                said[f"gram.first/{name}" if first else f"gram/{name}"] = pack(mean).float()
            else:
                said[f"gram.diag/{name}"] = mean.float()
            if not first:
                said[f"gram.mean/{name}"] = (self._sums[name].cpu() / count).float()
        return said

    def _take_input(self, name: str, x: Tensor) -> None:
        rows = self._counted(x)
        wide = self._diagonal(name) and not _inputs_first(self._layers[name][0])
        self._add(name, rows.square().sum(0) if wide else rows.mT @ rows, rows)

    def _take_normalised(self, name: str, x: Tensor) -> None:
        rows = self._counted(_normalised(self._layers[name][0], x))
        self._add(name, rows.square().sum(0), rows)

    def _add(self, name: str, squares: Tensor, rows: Tensor) -> None:
        for sums, more in ((self._squares, squares), (self._sums, rows.sum(0))):
            sums[name] = sums[name] + more if name in sums else more
        self._counts[name] = self._counts.get(name, 0) + len(rows)

    def _counted(self, x: Tensor) -> Tensor:
        x = x.detach()
        if self._mask is not None:
            if x.shape[: self._mask.dim()] != self._mask.shape:
                raise ParameterError(f"a mask of {list(self._mask.shape)} for inputs of {list(x.shape)}")
            x = x[self._mask.to(x.device)]
        return x.reshape(-1, x.shape[-1]).double()


def _hook(take: Callable[[str, Tensor], None], name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        take(name, inputs[0])

    return hook


def _inputs_first(module: nn.Module) -> bool:
    """Whether a layer is a linear one with weights [in, out], as transformers' Conv1D, which has ``nf``."""
    return hasattr(module, "nf") and not isinstance(module, nn.Linear)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or _inputs_first(module)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or hasattr(module, "variance_epsilon")


def _normalised(module: nn.Module, x: Tensor) -> Tensor:
    """Return what a norm layer multiplies its weights with."""
    if isinstance(module, nn.LayerNorm):
        return nn.functional.layer_norm(x, module.normalized_shape, eps=module.eps)
    eps = module.eps if isinstance(module, nn.RMSNorm) else vars(module)["variance_epsilon"]
    return nn.functional.rms_norm(x, (x.shape[-1],), eps=eps)
