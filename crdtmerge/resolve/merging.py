"""The two ways to have a merge: tensors in memory, or a published folder. One engine under both."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from crdtmerge.coefficients import Published
from crdtmerge.digest import Digest
from crdtmerge.errors import EmptySetError, ParameterError, UnrelatedBaseWarning, UsageError
from crdtmerge.manifest import Factor, Kind, Manifest
from crdtmerge.merkle import MerkleSet
from crdtmerge.recipe import Number, Recipe
from crdtmerge.store import Reader, Store, ingest_file, ingest_tensors
from crdtmerge.store.shards import shards_of
from crdtmerge.strategy import pin

from .admission import RELATED_COSINE_MIN, Progress, check_binding, check_schema, check_values, cosine_to_base
from .corrections import record_of, store_corrections
from .payload import Payload, take_coefficients
from .plan import Plan, plan
from .published import check_payload, floating
from .result import Result
from .sinks import FileSink, MemorySink
from .statedict import to_raw
from .stream import BUDGET_BYTES, execute
from .verify import RECORD, verify_result

Model = Mapping[str, torch.Tensor] | Path | str
"""A state dict, or the path of a safetensors file or model directory."""

Evidence = Model | Sequence[Path | str]
"""Evidence in the same forms, or in several files."""


@dataclass(frozen=True)
class Contribution:
    """A model, and what its author says about it.

    Attributes:
        model: a full checkpoint.
        evidence: tensors named ``kind/tensor`` (see `crdtmerge.evidence`), in the model's form: a mapping
            beside a mapping, paths beside a path.
        label, role, topic: texts that recipes select by and strategies ask for.
    """

    model: Model
    evidence: Evidence | None = None
    label: str | None = None
    role: str | None = None
    topic: str | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """The texts that are given, by name."""
        texts = {"label": self.label, "role": self.role, "topic": self.topic}
        return {key: text for key, text in texts.items() if text is not None}


def merge(
    contributions: Sequence[Model | Contribution],
    *,
    base: Model | None = None,
    recipe: Recipe | None = None,
    weights: Sequence[Number] | None = None,
    coefficients: Payload | None = None,
    budget_bytes: int = BUDGET_BYTES,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, torch.Tensor]:
    """Merge models in memory, as a federation with the same contributions would.

    The order of ``contributions`` has no influence, and equal ones count once.

    Args:
        contributions: state dicts or paths of full checkpoints, or `Contribution` with evidence and role.
        base: what they were fine-tuned from, if the strategy works on differences.
        recipe: what to compute; the uniform average by default.
        weights: one for each contribution, in their order.
        coefficients: what a search found for these contributions; its rows stand in their order.
        budget_bytes: memory for tiles; does not influence the result.
        threads: that merge at the same time; do not influence the result.
        progress: called with numbers of elements done.

    Returns:
        The merged state dict, names ascending.

    Raises:
        EmptySetError: without contributions.
        ShapeMismatchError, NonFiniteError: naming the tensor of the contribution at fault.
        UsageError: if the recipe cannot be followed.

    Warns:
        UnrelatedBaseWarning: if a contribution seems not to descend from the base.
    """
    chosen = recipe or Recipe("weight_average")
    if not contributions:
        raise EmptySetError("there is nothing to merge: pass at least one contribution")
    with Store.memory() as store:
        base_manifest = None if base is None else take(store, base, kind=Kind.BASE, base=None)
        base_digest = None if base_manifest is None else base_manifest.digest
        given = [c if isinstance(c, Contribution) else Contribution(c) for c in contributions]
        manifests = [
            take(store, c.model, kind=Kind.FULL, base=base_digest, evidence=c.evidence, metadata=c.metadata)
            for c in given
        ]
        for manifest in manifests:
            admit(store, manifest, base_manifest or manifests[0], unrelated=base_manifest is not None)
        digests = [manifest.digest for manifest in manifests]
        if weights is not None:
            if len(weights) != len(contributions):
                raise ParameterError(f"{len(weights)} weights for {len(contributions)} contributions")
            named = Recipe("linear", weights=dict(zip(digests, weights, strict=True)))
            chosen = chosen.replace(weighting=named.weighting, weights=named.weights)
        published = []
        if coefficients is not None:
            payload = take_coefficients(store, coefficients, digests)
            reference = base_manifest or manifests[0]
            check_payload(store, payload, digests, floating(reference), pin(chosen))
            published.append(Published(0, payload.digest, tuple(sorted(set(digests)))))
        root = MerkleSet.of(digests).root
        made = plan(store, digests, base=base_digest, recipe=chosen, root=root, published=published)
        sink = MemorySink(made.layout)
        execute(
            made,
            reader_within(store, budget_bytes),
            sink,
            budget_bytes=budget_bytes,
            threads=threads,
            progress=progress,
        )
        return sink.state


def reader_within(store: Store, budget_bytes: int) -> Reader:
    """Return a reader whose cache takes a quarter of a memory budget; tiles have the rest."""
    return store.reader(budget_bytes // 4)


def take(
    store: Store,
    model: Model,
    *,
    kind: Kind,
    base: Digest | None,
    reference: bool = False,
    progress: Progress | None = None,
    factors: Sequence[Factor] = (),
    evidence: Evidence | None = None,
    weight: str = "1",
    metrics: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Manifest:
    """Put a model's content into a store and return its manifest.

    Raises:
        UsageError: if evidence is a mapping beside a path, or the other way round.
        EvidenceError: if it was computed for other weights.
    """
    if isinstance(model, (str, Path)):
        files = _files(evidence)
        manifest = ingest_file(
            store,
            Path(model),
            kind=kind,
            base=base,
            reference=reference,
            progress=progress,
            factors=factors,
            evidence=files,
            weight=weight,
            metrics=metrics,
            metadata=metadata,
        )
        check_binding(manifest, files)
        return manifest
    if evidence is not None and not isinstance(evidence, Mapping):
        raise _other_form()
    return ingest_tensors(
        store,
        to_raw(model),
        kind=kind,
        base=base,
        factors=factors,
        evidence=None if evidence is None else to_raw(evidence),
        weight=weight,
        metrics=metrics,
        metadata=metadata,
    )


def _files(evidence: Evidence | None) -> list[Path]:
    if isinstance(evidence, Mapping):
        raise _other_form()
    given = [evidence] if isinstance(evidence, (str, Path)) else evidence or []
    return [shard for path in given for shard in shards_of(Path(path))]


def _other_form() -> UsageError:
    return UsageError("give model and evidence both as paths, or both as mappings of tensors")


def admit(
    store: Store,
    manifest: Manifest,
    reference: Manifest,
    *,
    unrelated: bool,
    any_float: bool = False,
    progress: Progress | None = None,
) -> None:
    """Run the checks that an author's contribution must pass before it is announced.

    Args:
        store: holds its content.
        manifest: the contribution.
        reference: the base, or the contribution that sets the schema where there is no base.
        unrelated: warn if it seems not to descend from the reference.
        any_float: accept another floating dtype than the reference's.
        progress: called with bytes read.

    Raises:
        ShapeMismatchError, NonFiniteError, EvidenceError: naming the tensors at fault.
    """
    check_schema(manifest, reference, any_float=any_float)
    check_values(store, manifest, base=reference, progress=progress)
    if unrelated and manifest.kind is Kind.FULL:
        cosine = cosine_to_base(store, manifest, reference)
        if cosine < RELATED_COSINE_MIN:
            warnings.warn(
                f"contribution {manifest.digest.hex()[:12]}… has cosine {cosine:.3f} to the base: it seems "
                "not to be fine-tuned from it, and merging unrelated networks gives noise",
                UnrelatedBaseWarning,
                stacklevel=3,
            )


def publish(
    made: Plan,
    reader: Reader,
    target: Path,
    *,
    budget_bytes: int = BUDGET_BYTES,
    threads: int = 1,
    progress: Progress | None = None,
) -> Result:
    """Carry out a plan into the folder ``target``, which appears when it is whole and durable.

    A run that was interrupted is taken up where it stopped, a tensor at a time. If the folder holds this
    very result already, every byte of it is checked instead.

    Raises:
        UsageError: if the folder holds something else.
        CorruptBlockError: if it holds this result, damaged.
        NonFiniteError, NotYetError, StoreError: see `execute`.
    """
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()
    if target.exists():
        return _existing(made, target)
    sink = FileSink(target, made.layout, made.identity)
    try:
        execute(
            made, reader, sink, budget_bytes=budget_bytes, threads=threads, done=sink.done, progress=progress
        )
        result = record_of(made, sink.merged(None if made.base is None else made.base.digest))
        store_corrections(result, reader, sink.work)
        sink.publish(result)
    finally:
        sink.close()
    return result


def _existing(made: Plan, target: Path) -> Result:
    if not (target / RECORD).exists():
        raise UsageError(f"{target} exists and is no merged model: name another folder")
    result = verify_result(target)
    base = None if made.base is None else made.base.digest
    if result.merged.base != base or result != record_of(made, result.merged):
        raise UsageError(f"{target} holds another merged model: name another folder, or remove it")
    return result
