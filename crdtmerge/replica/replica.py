"""One folder, or some memory, that takes part in a federation: content in, merged models out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from crdtmerge import ambient, witness
from crdtmerge.digest import Digest
from crdtmerge.errors import ParameterError, UsageError
from crdtmerge.home import open_home
from crdtmerge.keys import NodeId, SigningKey
from crdtmerge.ledger import FEDERATION, Ledger
from crdtmerge.manifest import Kind
from crdtmerge.op import Add, Genesis, Operation, Policy, SetRecipe
from crdtmerge.recipe import Number, Recipe
from crdtmerge.resolve import (
    BUDGET_BYTES,
    Evidence,
    MemorySink,
    Model,
    Payload,
    Plan,
    Progress,
    check_values,
    execute,
    plan,
    publish,
    reader_within,
    take,
)
from crdtmerge.store import Store
from crdtmerge.store.copying import copy_content
from crdtmerge.strategy import pin

from .attest import attest
from .offer import offer
from .publishing import prepare, published
from .resolved import Resolved
from .selection import judge, select


class Replica(Ledger):
    """A member's copy of a federation; use as a context manager, or call `close`."""

    @classmethod
    def create(
        cls,
        home: Path | str | None = None,
        *,
        base: Model,
        recipe: Recipe | None = None,
        policy: Policy | None = None,
        key: SigningKey | None = None,
        founders: Sequence[NodeId] = (),
        reference: bool = False,
        progress: Progress | None = None,
    ) -> Replica:
        """Found a federation on ``base`` and return its first replica.

        Args:
            home: folder to keep it in; in memory without one.
            base: the model that everybody fine-tunes.
            recipe: what to compute; the uniform average, which does not degrade as peers join, by default.
            policy: quotas that decide what counts.
            key: who founds it; a new identity (or the home's) by default.
            founders: other keys with the same authority from the start.
            reference: leave the base's file where it is instead of copying it.
            progress: called with bytes read.

        Raises:
            UsageError: if the home already belongs to a federation, or the base is not usable.
        """
        store, signer = open_home(home, key, create=True)
        chosen = pin(recipe or Recipe("weight_average"))
        manifest = take(store, base, kind=Kind.BASE, base=None, reference=reference, progress=progress)
        check_values(store, manifest)
        genesis = Operation.sign(
            signer,
            Genesis(
                founders=tuple(sorted({signer.id, *founders})),
                base=manifest.digest,
                schema=manifest.schema,
                recipe=chosen,
                nonce=ambient.entropy(16),
                policy=policy or Policy(),
            ),
            federation=None,
            created_ms=ambient.now_ms(),
        )
        return cls._begin(store, signer, home, genesis)

    @classmethod
    def follow(
        cls,
        home: Path | str | None = None,
        *,
        federation: Replica | Operation,
        key: SigningKey | None = None,
    ) -> Replica:
        """Return an empty replica of an existing federation, which `join` can fill.

        Args:
            home: folder to keep it in; in memory without one.
            federation: a replica of it, or its genesis operation.
            key: whose replica it is; a new identity (or the home's) by default.
        """
        genesis = federation.genesis if isinstance(federation, Replica) else federation
        store, signer = open_home(home, key, create=True)
        return cls._begin(store, signer, home, genesis)

    @classmethod
    def _begin(cls, store: Store, key: SigningKey, home: Path | str | None, genesis: Operation) -> Replica:
        known = store.setting(FEDERATION)
        if known is not None and known != genesis.id:
            raise UsageError(f"{home} already belongs to federation {known.hex()[:12]}…; use another folder")
        genesis.verify()
        store.blocks.flush()
        store.add_operations([genesis.encoded])
        store.set_setting(FEDERATION, genesis.id)
        return cls(store, key, home=None if home is None else Path(home))

    def contribute(
        self,
        model: Model,
        *,
        kind: Kind = Kind.FULL,
        evidence: Evidence | None = None,
        label: str | None = None,
        role: str | None = None,
        topic: str | None = None,
        weight: Number = 1,
        metrics: Mapping[str, Number] | None = None,
        metadata: Mapping[str, str] | None = None,
        reference: bool = False,
        any_float: bool = False,
        progress: Progress | None = None,
    ) -> Digest:
        """Add a model to what the federation merges, and return the contribution's digest.

        Args:
            model: a state dict, a safetensors file, a model folder or a PEFT adapter folder.
            kind: what its tensors are; an adapter folder is LORA whatever is said.
            evidence: statistics about it (`crdtmerge.evidence`): a mapping beside a state dict, else files.
            label: a name for people, also for a recipe's selection.
            role, topic: texts that some strategies ask for.
            weight: declared weight; counts only under a recipe with weighting "declared".
            metrics: numbers about it; ``num_examples`` counts under weighting "examples".
            metadata: text about it.
            reference: serve the file from where it is instead of copying it.
            any_float: accept another floating dtype than the base's.
            progress: called with bytes read.

        Raises:
            PermissionDeniedError: if this replica's key is not a member.
            ShapeMismatchError, NonFiniteError, EvidenceError: naming the tensors at fault.
        """
        self._require_member("contribute")
        texts = {"label": label, "role": role, "topic": topic}
        with self.store.taking_in():  # until it is announced nothing says that it is needed
            manifest = offer(
                self.store,
                self.whole_base(),
                self.operations.charter.policy,
                model,
                kind=kind,
                evidence=evidence,
                weight=weight,
                metrics=metrics or {},
                metadata=dict(metadata or {}) | {k: text for k, text in texts.items() if text is not None},
                reference=reference,
                any_float=any_float,
                progress=progress,
            )
            if manifest.digest not in self.view.contributions:
                self._say(Add(manifest.digest))
        return manifest.digest

    def publish(self, payload: Payload, contributions: Sequence[Digest] | None = None) -> Operation:
        """Publish what a search found, bound to the contributions that it was found for.

        Args:
            payload: see docs/spec/formats.md.
            contributions: in the order of its rows; by default those that would be merged now, ascending.

        Raises:
            PermissionDeniedError: if this replica's key is not a member.
            UsageError: if a contribution is not visible, or every replica would pass over the payload.
        """
        self._require_member("coefficients")
        members = self._judged(self.view.recipe)[0] if contributions is None else contributions
        with self.store.taking_in():
            said = prepare(self.store, self.view, self.base, payload, members)
            before = (o for o in self.view.coefficients if o.author == self.id and o.body == said)
            return next(before, None) or self._say(said)

    # --- what is taken over, and what is computed -----------------------------------------------

    def join(self, other: Replica) -> int:
        """Take over what ``other`` knows: operations, and the content of what is visible or published.

        Joining is commutative, associative and idempotent. Returns the number of new operations.

        Raises:
            UsageError: if the other belongs to another federation.
        """
        if other.operations.federation != self.operations.federation:
            raise UsageError("these replicas belong to different federations")
        fresh = [operation for operation in other.operations if operation.id not in self.operations]
        self.store.add_operations(operation.encoded for operation in fresh)
        self._absorb(fresh)
        wanted = [*self.visible, *(found.payload for found in published(self.view))]
        if self._base is not None:
            wanted.append(self._base)
        for digest in wanted:
            if not self.is_ready(digest) and other.store.has_manifest(digest):
                copy_content(other.store, self.store, other.store.manifest(digest))
        witness.take_over(other.store, self.store)
        return len(fresh)

    def set_recipe(self, recipe: Recipe) -> Operation:
        """Change what the federation computes, superseding the recipe in force.

        Raises:
            UnknownStrategyError, ParameterError: before anything is signed.
        """
        self._require_admin("recipe")
        return self._say(SetRecipe(pin(recipe), (self.view.recipe_id,)))

    def plan(self, recipe: Recipe | None = None) -> Plan:
        """Decide the merge of what is visible now; nothing is computed yet.

        Raises:
            EmptySetError, NotYetError, UsageError: whatever stands in the way, before any work.
        """
        chosen = recipe or self.view.recipe
        admitted, excluded = self._judged(chosen)
        return plan(
            self.store,
            admitted,
            base=self.base.digest,
            recipe=chosen,
            root=self.root,
            excluded=excluded,
            published=published(self.view),
        )

    def _judged(self, recipe: Recipe) -> tuple[list[Digest], list[tuple[Digest, str]]]:
        chosen = select(self.view, self.store, recipe.selection)
        return judge(self.store, chosen, self.base, self.operations.charter.policy)

    def resolve(
        self,
        out: Path | str | None = None,
        *,
        recipe: Recipe | None = None,
        budget_bytes: int = BUDGET_BYTES,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Resolved:
        """Compute the merged model of what is visible now, and publish it as a folder.

        Args:
            out: the folder; by default one under the home's ``results``, named after recipe and root. If it
                holds this very result already, every byte of it is checked and nothing is merged.
            recipe: another than the federation's.
            budget_bytes: memory for tiles; does not influence the result.
            threads: that merge at the same time, by default one for each core; do not influence the result.
            progress: called with numbers of elements done.

        Raises:
            EmptySetError, NotYetError, UsageError: before any work.
            CorruptBlockError: if the folder holds this result, damaged.
            DivergenceError: after publishing, if another member attests another model made from the same.
        """
        made = self.plan(recipe)
        if out is None:
            if self.home is None:
                raise ParameterError("a replica in memory needs out=, or use merged()")
            target = self.home / "results" / made.folder
        else:
            target = Path(out)
        reader = reader_within(self.store, budget_bytes)
        cores = threads or os.cpu_count() or 1
        result = publish(made, reader, target, budget_bytes=budget_bytes, threads=cores, progress=progress)
        attest(self, result)
        return Resolved(result, target, reader.blocks_read)

    def merged(
        self, *, recipe: Recipe | None = None, budget_bytes: int = BUDGET_BYTES
    ) -> dict[str, torch.Tensor]:
        """Compute the merged model of what is visible now, as a state dict in memory."""
        made = self.plan(recipe)
        sink = MemorySink(made.layout)
        execute(made, reader_within(self.store, budget_bytes), sink, budget_bytes=budget_bytes)
        return sink.state
