"""Which files a model consists of."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from crdtmerge.errors import LimitError, MalformedError, RejectedError
from crdtmerge.limits import SAFETENSORS_HEADER_BYTES_MAX, TENSORS_MAX
from crdtmerge.store import files

_SUFFIX: Final = ".safetensors"
_INDEX_SUFFIX: Final = ".safetensors.index.json"
_IN_A_FOLDER: Final = ("model.safetensors.index.json", "model.safetensors", "adapter_model.safetensors")
_PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})


def shards_of(path: Path) -> list[Path]:
    """Return the safetensors files that make up the model at ``path``, ascending by name.

    Args:
        path: a safetensors file; a Hugging Face index (``*.safetensors.index.json``); or a folder that
            holds an index, ``model.safetensors`` or PEFT's ``adapter_model.safetensors``.

    Raises:
        RejectedError: if it is nothing of that, or the weights are pickled.
        MalformedError: if an index is no index, or names a file outside its own folder.
    """
    if path.is_dir():
        return shards_of(_in_folder(path))
    if path.suffix.lower() in _PICKLED:
        raise RejectedError(
            f"{path} is pickled, and unpickling runs whatever code is in it. Convert it to safetensors first "
            "(save_pretrained(…, safe_serialization=True) of transformers and peft does)."
        )
    if path.name.endswith(_INDEX_SUFFIX):
        shards = [path.parent / name for name in _names_in(path)]
    elif path.suffix == _SUFFIX:
        shards = [path]
    else:
        raise RejectedError(f"{path} is no safetensors file, index or model folder")
    for shard in shards:
        if not shard.is_file():
            raise RejectedError(f"{shard} does not exist, or is no regular file")
    return shards


def _in_folder(folder: Path) -> Path:
    for name in _IN_A_FOLDER:
        if (folder / name).exists():
            return folder / name
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _PICKLED:
            return path  # to be refused with the reason
    raise RejectedError(f"{folder} holds none of {', '.join(_IN_A_FOLDER)}")


def _names_in(index: Path) -> list[str]:
    with files.disk_errors("reading", index):
        descriptor = files.open_regular(index)
        try:
            raw = files.read_exactly(descriptor, 0, SAFETENSORS_HEADER_BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    if len(raw) > SAFETENSORS_HEADER_BYTES_MAX:
        raise LimitError(f"{index} exceeds {SAFETENSORS_HEADER_BYTES_MAX} bytes")
    try:
        value = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{index} is no JSON: {error}") from error
    places = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(places, dict) or not places or len(places) > TENSORS_MAX:
        raise MalformedError(f"{index} has no weight_map of at most {TENSORS_MAX} tensors")
    return sorted({_plain(index, place) for place in places.values()})


def _plain(index: Path, place: object) -> str:
    """Return the name of a file in the index' own folder, and of no other.

    The file may be a link, as it is in Hugging Face's cache: that the user's own disk says, not the index.
    """
    if (
        not isinstance(place, str)
        or not place.endswith(_SUFFIX)
        or any(character in place for character in "/\\\0")
    ):
        raise MalformedError(
            f"{index} names {str(place)[:200]!r}, which is no safetensors file of its folder"
        )
    return place
