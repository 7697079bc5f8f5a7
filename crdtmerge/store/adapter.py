"""PEFT adapter folders: low-rank factors, and which tensors of the base they change.

    adapter_config.json          r, lora_alpha, use_rslora
    adapter_model.safetensors    base_model.model.<module>.lora_A.weight  [r, in]
                                 base_model.model.<module>.lora_B.weight  [out, r]

stands for the difference ``lora_alpha / r · B @ A`` of the base's ``<module>.weight``. Whatever else an
adapter may hold (trained biases, whole modules, DoRA magnitudes, ranks per module) changes what it stands
for, so it is refused by name instead of being left out.

Source: Hu et al. 2021, arXiv:2106.09685; PEFT's configuration format. rsLoRA's scale is alpha / sqrt(r)
(Kalajdzievski 2023, arXiv:2312.03732): accepted where sqrt(r) is whole, so that the scale stays exact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from crdtmerge.errors import RejectedError, ShapeMismatchError
from crdtmerge.manifest import Factor
from crdtmerge.rational import decimal
from crdtmerge.store.shards import shards_of
from crdtmerge.store.tensorfile import TensorFile

CONFIG: Final = "adapter_config.json"

_CONFIG_BYTES_MAX: Final = 1 << 20
_PREFIX: Final = "base_model.model."
_UNSUPPORTED: Final = (
    "alpha_pattern",
    "fan_in_fan_out",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "use_dora",
)


def is_adapter(path: Path) -> bool:
    """Whether ``path`` is an adapter's folder."""
    return (path / CONFIG).is_file()


def factors_of(folder: Path, base: Iterable[str]) -> tuple[Factor, ...]:
    """Return which tensors of the base an adapter changes, and by which factors.

    Args:
        folder: the adapter.
        base: names of the base's tensors.

    Raises:
        RejectedError: if the adapter is of another kind than plain LoRA, naming the setting.
        ShapeMismatchError: if a factor has no partner, or no tensor in the base, naming it.
    """
    scale = _scale(_config(folder / CONFIG))
    targets, names = set(base), set[str]()
    for shard in shards_of(folder):
        with TensorFile(shard) as file:
            names |= file.tensors.keys()
    found = []
    for a in sorted(name for name in names if ".lora_A." in name):
        b = a.replace(".lora_A.", ".lora_B.")
        module = a.removeprefix(_PREFIX).partition(".lora_A.")[0]
        target = f"{module}.weight"
        if b not in names:
            raise ShapeMismatchError(f"{a} has no partner {b}: the adapter is incomplete", [a])
        if target not in targets:
            raise ShapeMismatchError(f"{a} changes {target}, which is not in the base", [target])
        found.append(Factor(target, a, b, scale))
        names -= {a, b}
    if names:
        stray = sorted(names)[0]
        raise RejectedError(
            f"{folder}: {stray} is no LoRA factor; merge it into a checkpoint and contribute that"
        )
    return tuple(found)


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _CONFIG_BYTES_MAX:
            raise RejectedError(f"{path} is too large for an adapter's configuration")
        config = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RejectedError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise RejectedError(f"{path} holds no JSON object")
    if config.get("peft_type") != "LORA":
        raise RejectedError(f"{path}: peft_type is {config.get('peft_type')!r}, only 'LORA' is supported")
    if config.get("bias", "none") != "none":
        raise RejectedError(f"{path}: bias is {config['bias']!r}; trained biases are no low-rank difference")
    for setting in _UNSUPPORTED:
        if config.get(setting):
            raise RejectedError(
                f"{path}: {setting} is set, which changes what the factors mean and is not supported. "
                "Merge the adapter into a checkpoint and contribute that."
            )
    return config


def _scale(config: dict[str, Any]) -> tuple[int, int]:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if (
        not isinstance(rank, int)
        or rank < 1
        or not isinstance(alpha, (int, float))
        or isinstance(alpha, bool)
    ):
        raise RejectedError(f"an adapter with r = {rank!r} and lora_alpha = {alpha!r}")
    divisor = rank
    if config.get("use_rslora"):
        divisor = math.isqrt(rank)
        if divisor * divisor != rank:
            raise RejectedError(f"an rsLoRA adapter of rank {rank}: alpha / sqrt({rank}) is no exact number")
    scale = Fraction(decimal(alpha)) / divisor
    if scale.numerator.bit_length() > 63 or scale.denominator.bit_length() > 63:
        raise RejectedError(f"an adapter whose scale {scale} is out of range")
    return scale.numerator, scale.denominator
