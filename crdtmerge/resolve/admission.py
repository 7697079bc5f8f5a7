"""What a contribution must be to count: checks that name the tensor at fault.

Two of them every replica repeats on what peers bring, since their answer is a function of content alone:
the tensors fit the federation's schema, and every floating value is finite and of bounded magnitude;
evidence keeps the rules of its kinds (`crdtmerge.evidence.checks`). A contribution that fails is left out by
every replica alike, so one bad peer blocks nobody. The author meets the same checks, and stricter ones,
before anything is signed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from crdtmerge import arith
from crdtmerge.errors import EvidenceError, LimitError, NonFiniteError, ShapeMismatchError
from crdtmerge.evidence import WEIGHTS, check_content, check_form
from crdtmerge.limits import BLOCK_BYTES
from crdtmerge.manifest import Kind, Manifest, Tensor
from crdtmerge.store import Store, TensorFile

Progress = Callable[[int], None]
"""Called with the number of bytes done since the last call."""

RELATED_COSINE_MIN: Final = 0.5
"""CHGNet's fine-tune has 0.98 to its base; releases of one network trained apart have 0.2 and less."""

MAGNITUDE_MAX: Final = 2.0**64
"""No weight is this large; 2^32 contributions of it still sum to a finite float32 after averaging."""

FACTOR_MAX: Final = 2.0**40
"""Of an element of a low-rank factor: products over any rank, times the scale, stay finite in float32."""

_SCALE_MAX: Final = 1 << 20

_NAMED: Final = 3


def check_schema(manifest: Manifest, reference: Manifest, *, any_float: bool = True) -> None:
    """Check that a contribution's tensors fit those of the base (or of the first contribution).

    Args:
        manifest: the contribution.
        reference: what it must fit.
        any_float: accept another floating dtype than the reference's; it is decoded exactly.

    Raises:
        ShapeMismatchError: naming the first offending tensors, what was got and what was wanted.
        EvidenceError: likewise, of the evidence.
    """
    faults = list(_faults(manifest, reference, any_float=any_float))
    if faults:
        shown = "; ".join(text for _, text in faults[:_NAMED])
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        way_out = "Contribute a fine-tune of exactly this federation's base."
        if not any(_faults(manifest, reference, any_float=True)):
            way_out = "Save it in the base's dtypes, or accept it as it is with --any-float (any_float=True)."
        raise ShapeMismatchError(
            f"{len(faults)} tensors do not fit the base: {shown}{more}. {way_out}",
            [name for name, _ in faults],
        )
    check_form(manifest, reference.by_name)


def _faults(manifest: Manifest, reference: Manifest, *, any_float: bool) -> Iterator[tuple[str, str]]:
    wanted, got = reference.by_name, manifest.by_name
    if manifest.kind in (Kind.BASE, Kind.COEFFICIENTS) and manifest is not reference:
        yield next(iter(got)), f"it is of kind {manifest.kind.value}, which is no contribution"
        return
    if manifest.kind is Kind.LORA:
        yield from _lora_faults(manifest, wanted)
        return
    for name in sorted(wanted.keys() | got.keys(), key=str.encode):
        if name not in wanted:
            yield name, f"{name} is not in the base"
        elif name not in got:
            if manifest.kind is Kind.FULL:
                yield name, f"{name} is missing"
        elif got[name].shape != wanted[name].shape:
            yield name, f"{name} has shape {list(got[name].shape)}, wanted {list(wanted[name].shape)}"
        elif got[name].dtype is not wanted[name].dtype:
            both_float = got[name].dtype.floating and wanted[name].dtype.floating
            if not (both_float and any_float):
                yield name, f"{name} has dtype {got[name].dtype.code}, wanted {wanted[name].dtype.code}"


def _lora_faults(manifest: Manifest, wanted: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
    for factor in manifest.factors:
        target = wanted.get(factor.target)
        b, a = manifest.by_name[factor.b], manifest.by_name[factor.a]
        product = (b.shape[0], a.shape[1])
        if target is None:
            yield factor.target, f"{factor.target} is not in the base"
        elif target.shape != product:
            yield (
                factor.target,
                f"{factor.target} has factors of shape {list(product)}, wanted {list(target.shape)}",
            )
        elif not (a.dtype.floating and b.dtype.floating and target.dtype.floating):
            yield factor.target, f"{factor.target} has factors that are not floating point"


def check_values(
    store: Store, manifest: Manifest, *, base: Manifest | None = None, progress: Progress | None = None
) -> None:
    """Check that every floating value is finite and of bounded magnitude, a block at a time.

    The bounds keep one member from making everybody's sums overflow. What a contribution has in common
    with the base is not asked about: some models mark what they mask by the largest number there is.

    Args:
        store: holds the content.
        manifest: a contribution, or the base itself.
        base: what a contribution is compared with; without it only finiteness is checked.
        progress: called with bytes read.

    Raises:
        NonFiniteError: naming the first offending tensor and element.
        EvidenceError: likewise, of the evidence.
        LimitError: if low-rank factors have an absurd scale.
        NotYetError: if content is missing.
    """
    for factor in manifest.factors:
        numerator, denominator = factor.scale
        if abs(numerator) > denominator * _SCALE_MAX:
            raise LimitError(f"{factor.target} has factors with a scale of more than {_SCALE_MAX}")
    known = {} if base is None else {tensor.name: tensor.root for tensor in base.tensors}
    largest = FACTOR_MAX if manifest.kind is Kind.LORA else MAGNITUDE_MAX
    for tensor in manifest.tensors:
        if tensor.dtype.floating:
            unbound = base is None or known.get(tensor.name) == tensor.root
            _check_tensor(store, tensor, None if unbound else largest, progress)
    if base is not None:
        check_content(manifest, base.by_name, store.read, progress)


def _check_tensor(store: Store, tensor: Tensor, bound: float | None, progress: Progress | None) -> None:
    for begin in range(0, tensor.bytes, BLOCK_BYTES):
        raw = store.read(tensor, begin, min(begin + BLOCK_BYTES, tensor.bytes))
        index = arith.non_finite(raw, tensor.dtype, bound=bound)
        if index is not None:
            size = tensor.dtype.itemsize
            value = arith.decode(raw[index * size : (index + 1) * size], tensor.dtype).item()
            what = f"{value:g}, more than any weight," if math.isfinite(value) else "NaN or infinity"
            raise NonFiniteError(
                f"{tensor.name} holds {what} at flat index {begin // size + index}. A merge would spread "
                "it to everyone: contribute a checkpoint from before training diverged.",
                tensor.name,
            )
        if progress is not None:
            progress(len(raw))


def check_binding(manifest: Manifest, files: Sequence[Path]) -> None:
    """Check that evidence files which name the weights they describe name these.

    The name is the hexadecimal digest of the model under the key `WEIGHTS` of a file's metadata, as
    `crdtmerge.evidence.save` writes it. It protects authors from their own folders; to others, evidence is
    bound by standing in the manifest.

    Raises:
        EvidenceError: naming the file, what it names and what it came with.
    """
    for path in files:
        with TensorFile(path) as file:
            named = file.metadata.get(WEIGHTS)
        if named is not None and named != manifest.model.hex():
            raise EvidenceError(
                f"{path} was computed for the weights {named[:12]}…, and comes with "
                f"{manifest.model.hex()[:12]}…. Contribute it with its own weights, or compute it again.",
                str(path),
            )


def cosine_to_base(store: Store, manifest: Manifest, base: Manifest) -> float:
    """Return the cosine between a full checkpoint and the base over all floating tensors, 1 if both are 0.

    Tensors with a norm of zero on both sides agree; fine-tunes of a base stay close to 1, networks that
    were trained apart come out near 0.
    """
    dots = [0.0, 0.0, 0.0]
    for tensor in base.tensors:
        other = manifest.by_name[tensor.name]
        if not tensor.dtype.floating:
            continue
        sums = [arith.LaneSum() for _ in dots]
        step = BLOCK_BYTES // 8
        for start in range(0, tensor.elements, step):
            stop = min(start + step, tensor.elements)
            x, y = (
                arith.decode(store.read(t, start * t.dtype.itemsize, stop * t.dtype.itemsize), t.dtype)
                for t in (tensor, other)
            )
            for lanes, product in zip(sums, (x * y, x * x, y * y), strict=True):
                lanes.feed(product, start)
        dots = [total + lanes.result() for total, lanes in zip(dots, sums, strict=True)]
    xy, xx, yy = dots
    if xx == 0.0 or yy == 0.0:
        return 1.0 if xx == yy else 0.0
    return xy / (math.sqrt(xx) * math.sqrt(yy))
