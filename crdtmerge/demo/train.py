"""A small network that really learns: a common base model, and one fine-tune of it for each peer.

A state is a plain dictionary of float32 tensors, and the network a pure function of a state and images.
Everything random comes from the seed that the caller gives. Training runs on one thread: two make a
network of this size slower, and other sums. Its bits are the same again only on the same machine and
version of torch, which is no loss: what must be reproducible is the merge, not a peer's training.

The constants were chosen on seeds 0 to 4 and then tried on twenty others (`benchmarks/digits_accuracy.py`).
A peer alone is mostly worse than the base that it started from, as it forgets the digits that it never
sees; the average of eight was better than the base on all 25 seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from crdtmerge.demo.data import CLASSES, PIXELS, Examples

State: TypeAlias = dict[str, Tensor]

WIDTHS: Final = (PIXELS, 128, CLASSES)
STEPS: Final = 100
BATCH_EXAMPLES: Final = 32
LEARNING_RATE: Final = 0.03
MOMENTUM: Final = 0.9


def train_base(public: Examples, *, seed: int) -> State:
    """Train the common base model from scratch on a little public data."""
    return _fit(_initial(seed), public, seed=seed)


def fine_tune(base: Mapping[str, Tensor], shard: Examples, *, seed: int) -> State:
    """Train a copy of the base further on one peer's private examples; give each peer its own seed."""
    return _fit(base, shard, seed=seed)


def accuracy(state: Mapping[str, Tensor], examples: Examples) -> float:
    """Return the share of examples whose label the network finds, in percent."""
    with _one_thread(), torch.no_grad():
        found = logits(state, torch.from_numpy(examples.images)).argmax(dim=1)
        right = found == torch.from_numpy(examples.labels)
        return 100 * int(right.sum()) / len(examples)


def logits(state: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Apply the network: affine layers with ReLU between them.

    Args:
        state: as `train_base` returns it.
        images: float32 of shape [n, 64].

    Returns:
        Float32 of shape [n, 10].
    """
    last = len(WIDTHS) - 2
    for layer in range(last + 1):
        images = functional.linear(images, state[f"layer{layer}.weight"], state[f"layer{layer}.bias"])
        if layer < last:
            images = functional.relu(images)
    return images


def save(state: Mapping[str, Tensor], path: Path) -> Path:
    """Write a state as a safetensors file, and return its path."""
    save_file(dict(state), path)
    return path


def _initial(seed: int) -> State:
    """Draw He's initial weights; biases start at zero."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for layer, (wide, narrow) in enumerate(pairwise(WIDTHS)):
        state[f"layer{layer}.weight"] = torch.randn(narrow, wide, generator=generator) * (2 / wide) ** 0.5
        state[f"layer{layer}.bias"] = torch.zeros(narrow)
    return state


def _fit(start: Mapping[str, Tensor], examples: Examples, *, seed: int) -> State:
    """Take `STEPS` steps of stochastic gradient descent from a state that is left as it was."""
    images, labels = torch.from_numpy(examples.images), torch.from_numpy(examples.labels)
    generator = torch.Generator().manual_seed(seed)
    with _one_thread():
        state = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
        optimizer = torch.optim.SGD(list(state.values()), lr=LEARNING_RATE, momentum=MOMENTUM)
        for _ in range(STEPS):
            rows = torch.randint(len(labels), (BATCH_EXAMPLES,), generator=generator)
            optimizer.zero_grad()
            functional.cross_entropy(logits(state, images[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return {name: tensor.detach() for name, tensor in state.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
