"""Everything that is decided before any work: what is merged, by what, in which order, in which pieces.

A plan is a pure function of (contributions, base, recipe, root, what the store holds). Whatever could make
a merge fail for reasons of its inputs fails here, with an error that names it, before a byte is computed:
an empty set, a missing base, an unknown strategy, a parameter out of range, content that has not arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from crdtmerge import canon
from crdtmerge import digest as digests
from crdtmerge.coefficients import Published
from crdtmerge.digest import DIGEST_BYTES, Digest, Domain
from crdtmerge.dtypes import DType
from crdtmerge.errors import EmptySetError, NotYetError, ParameterError
from crdtmerge.manifest import Manifest, Tensor
from crdtmerge.rational import rational
from crdtmerge.recipe import NUMERICS, Recipe, Weighting
from crdtmerge.store import Store
from crdtmerge.strategy import Member, pin

from .admission import check_schema
from .assign import Assignment, assign
from .published import chooser, floating


@dataclass(frozen=True)
class Plan:
    """A merge, ready to run.

    Attributes:
        recipe: with versions pinned.
        root: seeds the random draws (unless the recipe's seed scope is the contribution).
        contributions: (digest, manifest), ascending by digest.
        base: its manifest, or None.
        assignments: strategies and their floating tensors.
        copied: tensors that pass through unchanged: integers and booleans.
        shared: names of tensors that at least one contribution has in common with the base, to the bit.
        excluded: (digest, reason) of contributions that fail admission.
        corrections: a payload of corrections that apply if the model that comes out is the one they name.
    """

    recipe: Recipe
    root: Digest
    contributions: tuple[tuple[Digest, Manifest], ...]
    base: Manifest | None
    assignments: tuple[Assignment, ...]
    copied: tuple[Tensor, ...]
    shared: tuple[str, ...]
    excluded: tuple[tuple[Digest, str], ...]
    corrections: Manifest | None = None

    @property
    def seed(self) -> Digest:
        """What every random draw is bound to."""
        return self.root if self.recipe.seed_scope == "root" else Digest(bytes(DIGEST_BYTES))

    @property
    def identity(self) -> Digest:
        """Stands for everything that the result is computed from and that its record says of it."""
        base = None if self.base is None else self.base.digest
        members = [digest for digest, _ in self.contributions]
        row: list[canon.Value] = ["plan", self.recipe.encoded, self.root, base, members]
        row += [[list(pair) for pair in self.excluded], list(self.coefficients), list(self.notes)]
        return digests.digest(Domain.RESULT, canon.encode(row))

    @property
    def folder(self) -> str:
        """The name of the result's folder: recipe and root; where coefficients are asked for, those too."""
        asks = any(assignment.needs.coefficients for assignment in self.assignments)
        name = f"{self.recipe.digest.hex()[:16]}-{self.root.hex()[:16]}"
        return f"{name}-{self.identity.hex()[:16]}" if asks else name

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the result, ascending; a function of the inputs alone."""
        return tuple(sorted({note for assignment in self.assignments for note in assignment.notes}))

    @property
    def coefficients(self) -> tuple[Digest, ...]:
        """Digests of the published coefficients that are applied, ascending."""
        applied = (assignment.group.coefficients for assignment in self.assignments)
        return tuple(sorted({found.digest for found in applied if found is not None}))

    @property
    def layout(self) -> list[tuple[str, DType, tuple[int, ...]]]:
        """Names, dtypes and shapes of the result, ascending by name."""
        floats = [(o.name, o.dtype, o.shape) for a in self.assignments for o in a.outputs]
        rows = floats + [(t.name, t.dtype, t.shape) for t in self.copied]
        return sorted(rows, key=lambda row: row[0].encode())

    @property
    def elements(self) -> int:
        """Floating elements of the result."""
        return sum(o.elements for a in self.assignments for o in a.outputs)


def plan(
    store: Store,
    contributions: Sequence[Digest],
    *,
    base: Digest | None,
    recipe: Recipe,
    root: Digest,
    excluded: Sequence[tuple[Digest, str]] = (),
    published: Sequence[Published] = (),
) -> Plan:
    """Decide a merge.

    Args:
        store: holds the content.
        contributions: digests of what is merged, in any order; equal ones count once.
        base: digest of the base's manifest, or None.
        recipe: what to compute.
        root: the visible root.
        excluded: visible contributions that are left out, for the record.
        published: coefficients that may apply.

    Raises:
        EmptySetError: if there is nothing to merge.
        MissingBaseError: if a strategy needs a base and there is none.
        UnknownStrategyError, ParameterError: if the recipe cannot be followed here.
        NotYetError: if content is missing, with the digests wanted.
        ShapeMismatchError: if contributions do not fit.
    """
    recipe = pin(recipe)
    if recipe.numerics != NUMERICS:
        raise ParameterError(
            f"the recipe asks for arithmetic version {recipe.numerics}, this software has {NUMERICS}"
        )
    ordered = tuple(sorted(set(contributions)))
    if not ordered:
        raise EmptySetError(
            "there is nothing to merge: no contribution is visible and selected. "
            "Contribute a fine-tune, or sync with a peer that has one."
        )
    chosen = tuple((digest, store.manifest(digest)) for digest in ordered)
    base_manifest = None if base is None else store.manifest(base)
    reference = base_manifest or chosen[0][1]
    for _, manifest in chosen:
        check_schema(manifest, reference)
    _check_present(store, [m for _, m in chosen] + ([base_manifest] if base_manifest else []))
    members = [
        _member(digest, manifest, weight)
        for (digest, manifest), weight in zip(chosen, _weights(recipe, chosen), strict=True)
    ]
    choose = chooser(store, published, ordered, floating(reference))
    assignments = assign(recipe, reference, base_manifest, [m for _, m in chosen], members, choose)
    corrections = {
        found.digest
        for assignment in assignments
        if (found := assignment.group.coefficients) is not None and found.payload == "delta"
    }
    return Plan(
        recipe=recipe,
        root=root,
        contributions=chosen,
        base=base_manifest,
        assignments=assignments,
        copied=tuple(_copied(t, base_manifest, chosen) for t in reference.tensors if not t.dtype.floating),
        shared=() if base_manifest is None else _shared(base_manifest, chosen),
        excluded=tuple(sorted(excluded)),
        corrections=next((store.manifest(digest) for digest in sorted(corrections)), None),
    )


def _check_present(store: Store, manifests: Sequence[Manifest]) -> None:
    wanted: set[Digest] = set()
    for manifest in manifests:
        missing = store.missing(manifest)
        wanted.update(missing.roots, missing.blocks)
    if wanted:
        raise NotYetError(
            f"at least {len(wanted)} pieces of content have not arrived yet. Keep the node running until "
            "`crdtmerge status` shows every contribution as ready.",
            wanted,
        )


def _member(digest: Digest, manifest: Manifest, weight: Fraction) -> Member:
    said = dict(manifest.metadata)
    return Member(digest, weight, said.get("label"), said.get("role"), said.get("topic"))


def _weights(recipe: Recipe, chosen: Sequence[tuple[Digest, Manifest]]) -> tuple[Fraction, ...]:
    explicit = dict(recipe.weights)
    weights = []
    for digest, manifest in chosen:
        if recipe.weighting is Weighting.UNIFORM:
            text = "1"
        elif recipe.weighting is Weighting.DECLARED:
            text = manifest.weight
        elif recipe.weighting is Weighting.EXPLICIT:
            text = explicit.get(digest, "1")
        else:
            metrics = dict(manifest.metrics)
            if "num_examples" not in metrics:
                raise ParameterError(
                    f"weighting by examples: contribution {digest.hex()[:12]}… has no metric num_examples"
                )
            text = metrics["num_examples"]
        weights.append(rational(text))
    return tuple(weights)


def _copied(tensor: Tensor, base: Manifest | None, chosen: Sequence[tuple[Digest, Manifest]]) -> Tensor:
    """Integer and boolean buffers: the base's, else the content most have, ties to the lowest digest."""
    if base is not None:
        return tensor
    votes = [manifest.by_name[tensor.name] for _, manifest in chosen]
    count = [sum(other.root == vote.root for other in votes) for vote in votes]
    return votes[count.index(max(count))]


def _shared(base: Manifest, chosen: Sequence[tuple[Digest, Manifest]]) -> tuple[str, ...]:
    return tuple(
        tensor.name
        for tensor in base.tensors
        if any(m.by_name[tensor.name].root == tensor.root for _, m in chosen if tensor.name in m.by_name)
    )
