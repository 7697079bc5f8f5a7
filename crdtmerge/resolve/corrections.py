"""What is known only once the bytes are: the result's record, and corrections made for exactly this model.

A published payload "delta" names the merged model that it was learnt on. Whether that is the model which came
out can be said only now: if so, its arrays are stored beside the model and are part of the record; if not,
they are left out, which the record notes. Both follow from the plan and the merged bytes alone.

    corrections.safetensors   canonical header, then the payload's arrays without ``applies_to``
"""

from __future__ import annotations

from pathlib import Path

from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Manifest
from crdtmerge.store import Reader
from crdtmerge.store.tensorfile import TensorFileWriter

from .plan import Plan
from .result import Result
from .verify import CORRECTIONS, METADATA, corrections_of


def record_of(made: Plan, merged: Manifest) -> Result:
    """Return the record of a plan that gave ``merged``."""
    coefficients, notes, corrections = made.coefficients, made.notes, made.corrections
    if corrections is not None:
        wanted = dict(corrections.metadata)["merged"]
        if wanted != merged.model.hex():
            coefficients = tuple(digest for digest in coefficients if digest != corrections.digest)
            left = f"corrections {corrections.digest.hex()[:12]}… are for model {wanted[:12]}…: left out"
            notes, corrections = tuple(sorted({*notes, left})), None
    return Result(
        recipe=made.recipe,
        root=made.root,
        contributions=tuple(digest for digest, _ in made.contributions),
        excluded=made.excluded,
        merged=merged,
        coefficients=coefficients,
        notes=notes,
        corrections=corrections,
    )


def store_corrections(result: Result, reader: Reader, folder: Path) -> None:
    """Write the corrections of a result into a folder, durably; if it has none, remove those of another."""
    if result.corrections is None:
        (folder / CORRECTIONS).unlink(missing_ok=True)
        return
    tensors = corrections_of(result.corrections)
    layout = [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]
    with TensorFileWriter(folder / CORRECTIONS, layout, metadata=METADATA) as writer:
        for tensor in tensors:
            for begin in range(0, tensor.bytes, BLOCK_BYTES):
                end = min(begin + BLOCK_BYTES, tensor.bytes)
                writer.write(tensor.name, begin, reader.read(tensor, begin, end))
        writer.publish()
