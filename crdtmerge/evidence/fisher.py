"""The diagonal of the Fisher information: how sharply a model's answers depend on each of its weights.

    F = 1/N Σₙ Σ_c p(c|xₙ) (∂ log p(c|xₙ) / ∂θ)²           one gradient for each example, squared by itself

The gradient of a batch's sum, squared, is not this: gradients of different examples and classes cancel before
they are squared. (One weight, two examples, two classes: 0.2217 as defined, 0.0258 by the short cut.) So
examples are taken one by one.

*Cost*: one forward pass per example; backward passes: one per class (``exact``), or one. Memory: twice the
model in float64. The evidence is as large as the model in float32.

*Privacy*: zero rows of an embedding tell which tokens the data never had, large values support guesses about
who was in it. Leave embeddings out, or use Adam's row and column sums (`moments`) for models of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from crdtmerge.errors import ParameterError

LABELS: Final = ("exact", "sampled", "given")

Example = TypeVar("Example")


def diagonal_fisher(
    model: nn.Module,
    examples: Iterable[Example],
    logits: Callable[[Example], Tensor],
    *,
    labels: str = "exact",
    target: Callable[[Example], Tensor] | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return ``fisher.diag/<parameter>`` for every parameter of a model that requires a gradient, float32.

    Args:
        model: in the mode (`eval`) in which it answers; its gradients are left alone.
        examples: one at a time; a few hundred are usual.
        logits: what the model answers to one example, [classes], or [positions, classes] whose answers are
            independent given the example (a language model's next tokens).
        labels: which classes are gone through: ``exact``: all of them, each as often as the model expects it
            (one position only); ``sampled``: one that the model draws, right on average; ``given``: the true
            one, the "empirical" Fisher.
        target: for ``given``: the true class, or classes by position; negative ones do not count.
        seed: of what is sampled.

    Raises:
        ParameterError: if there are no examples, labels are of no known kind, or do not fit the logits.
    """
    if labels not in LABELS or (labels == "given") != (target is not None):
        raise ParameterError(
            f"labels is one of {', '.join(LABELS)}, and `given` comes with target=; got {labels}"
        )
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in named.items()}
    generator = torch.Generator().manual_seed(seed)
    count = 0
    for example in examples:
        with torch.enable_grad():
            answer = logits(example)
            scores = torch.log_softmax(answer.to(torch.promote_types(answer.dtype, torch.float32)), dim=-1)
            answers = _answers(scores, labels, None if target is None else target(example), generator)
        for place, (share, log_likelihood) in enumerate(answers):
            last = place == len(answers) - 1
            found = torch.autograd.grad(
                log_likelihood, list(named.values()), retain_graph=not last, allow_unused=True
            )
            for total, gradient in zip(sums.values(), found, strict=True):
                if gradient is not None:
                    total += share * gradient.detach().double().square()
        count += 1
    if not count:
        raise ParameterError("a Fisher information needs at least one example")
    return {f"fisher.diag/{name}": (total / count).float().cpu() for name, total in sums.items()}


def _answers(
    scores: Tensor, labels: str, target: Tensor | None, generator: torch.Generator
) -> list[tuple[float, Tensor]]:
    """Return (probability, log-likelihood) of the answers whose gradients are squared."""
    if labels == "exact":
        if scores.dim() != 1:
            raise ParameterError("exact labels go through the classes of one position; choose labels=sampled")
        return [(scores[c].exp().item(), scores[c]) for c in range(len(scores))]
    rows = scores.reshape(-1, scores.shape[-1])
    if target is None:
        drawn = torch.multinomial(rows.detach().exp().cpu(), 1, generator=generator)
        chosen = drawn.flatten().to(rows.device)
    else:
        chosen = torch.as_tensor(target, device=rows.device).flatten()
    if len(chosen) != len(rows):
        raise ParameterError(f"{len(chosen)} labels for {len(rows)} positions")
    counted = (chosen >= 0).nonzero().flatten()
    return [(1.0, rows[counted, chosen[counted]].sum())]
