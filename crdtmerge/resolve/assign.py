"""Which strategy merges which tensors of which members, with which arguments.

A recipe's rules take the tensors that match them, in order; the recipe's own strategy takes the rest. A
parameter that changes along the layers splits its rule's tensors by their place: each place is a group of its
own, so what a method ranks or counts globally it then ranks or counts per place.

What a strategy needs is checked here, before any work, and a lack is an error that says who lacks what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

from crdtmerge import canon, gradient
from crdtmerge.coefficients import Coefficients
from crdtmerge.dtypes import DType
from crdtmerge.errors import MissingBaseError, ParameterError
from crdtmerge.manifest import Manifest
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.strategy import Group, Member, Needs, Strategy, find

from .published import Choose


@dataclass(frozen=True)
class Output:
    """One floating tensor of the result.

    Attributes:
        name, dtype, shape, elements: of the tensor.
        source: name of the tensor that it is made of in the base and the members; almost always its own.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    elements: int
    source: str

    @property
    def columns(self) -> int:
        """The last dimension; 1 for a scalar."""
        return self.shape[-1] if self.shape else 1


@dataclass(frozen=True)
class Assignment:
    """A strategy with its arguments, the tensors that it merges, ascending by name, and whose.

    Attributes:
        strategy, arguments, needs: what is computed.
        parameters: the arguments in canonical bytes, which random draws are bound to.
        outputs: the tensors.
        group: the same as the strategy sees it.
        indices: positions of the group's members among all contributions of the merge.
        notes: what a user should know about this part of the result.
    """

    strategy: Strategy
    arguments: Mapping[str, Any]
    needs: Needs
    parameters: bytes
    outputs: tuple[Output, ...]
    group: Group
    indices: tuple[int, ...]
    notes: tuple[str, ...] = ()


def assign(
    recipe: Recipe,
    reference: Manifest,
    base: Manifest | None,
    chosen: Sequence[Manifest],
    members: Sequence[Member],
    choose: Choose,
) -> tuple[Assignment, ...]:
    """Distribute the reference's floating tensors over the recipe's strategies.

    Args:
        recipe: with versions pinned.
        reference: names, dtypes and shapes.
        base: or None.
        chosen: manifests of the contributions, in canonical order.
        members: the same as strategies see them.
        choose: from a strategy and its arguments to the coefficients that were published for it and these
            members.

    Raises:
        MissingBaseError, ParameterError: if a strategy lacks what it needs.
    """
    rules = [*recipe.rules, Rule("*", recipe.strategy, recipe.version, recipe.parameters)]
    place = gradient.places(tensor.name for tensor in reference.tensors)
    tensors: dict[tuple[int, Fraction], list[Output]] = {}
    for tensor in reference.tensors:
        if tensor.dtype.floating:
            dtype = recipe.output_dtype or tensor.dtype
            output = Output(tensor.name, dtype, tensor.shape, tensor.elements, tensor.name)
            index = next(i for i, rule in enumerate(rules) if fnmatchcase(tensor.name, rule.glob))
            where = place[tensor.name] if gradient.varies(rules[index].parameters) else Fraction(0)
            tensors.setdefault((index, where), []).append(output)
    for rule in rules:
        _check_base(find(rule.strategy, rule.version), rule, base)
    return tuple(
        _assignment(rules[index], where, outputs, chosen, members, choose)
        for (index, where), outputs in sorted(tensors.items(), key=lambda item: item[0])
    )


def _check_base(strategy: Strategy, rule: Rule, base: Manifest | None) -> None:
    arguments = strategy.read(gradient.at(rule.parameters, Fraction(0)))
    if strategy.needs(arguments).base and base is None:
        raise MissingBaseError(
            f"{strategy.name} works on differences from a base, and there is none. "
            "Give base=, or choose a strategy that needs none (weight_average, linear)."
        )


def _assignment(
    rule: Rule,
    where: Fraction,
    outputs: Sequence[Output],
    chosen: Sequence[Manifest],
    members: Sequence[Member],
    choose: Choose,
) -> Assignment:
    strategy = find(rule.strategy, rule.version)
    arguments = strategy.read(gradient.at(rule.parameters, where))
    needs = strategy.needs(arguments)
    indices = _with_evidence(strategy, needs, arguments, chosen, members)
    kept = tuple(members[i] for i in indices)
    _check_members(strategy, needs, kept)
    coefficients, notes = choose(strategy, arguments) if needs.coefficients else (None, ())
    if len(indices) < len(members):
        left = ", ".join(f"{members[i].digest.hex()[:12]}…" for i in range(len(members)) if i not in indices)
        notes += (f"{strategy.name} leaves out {left}, which bring no {_words(needs)}",)
        coefficients = None
    made = _planned(outputs, coefficients)
    return Assignment(
        strategy=strategy,
        arguments=arguments,
        needs=needs,
        parameters=canon.encode([[key, str(value)] for key, value in sorted(arguments.items())]),
        outputs=made,
        group=Group(tuple((o.name, o.shape) for o in made), kept, coefficients),
        indices=indices,
        notes=notes,
    )


def _with_evidence(
    strategy: Strategy,
    needs: Needs,
    arguments: Mapping[str, Any],
    chosen: Sequence[Manifest],
    members: Sequence[Member],
) -> tuple[int, ...]:
    """Return which contributions take part: all, unless ``missing=exclude`` and some lack evidence."""
    policy = arguments.get("missing", "error")
    if policy == "neutral":
        return tuple(range(len(chosen)))
    able = []
    for i, manifest in enumerate(chosen):
        brought = {tensor.name.partition("/")[0] for tensor in manifest.evidence}
        asked = needs.evidence if needs.evidence_of in (None, members[i].role) else ()
        lacking = [kind for kind in asked if not brought & set(kind.split("|"))]
        if not lacking:
            able.append(i)
        elif policy == "error":
            raise ParameterError(
                f"{strategy.name} weighs by evidence, and contribution {manifest.digest.hex()[:12]}… brings "
                f"no {lacking[0].replace('|', ' or ')}. Contribute it again with --evidence, or set "
                "missing=exclude in the recipe."
            )
    if not able:
        raise ParameterError(f"{strategy.name}: no contribution brings {_words(needs)}")
    return tuple(able)


def _words(needs: Needs) -> str:
    return " and ".join(kind.replace("|", " or ") for kind in needs.evidence)


def _check_members(strategy: Strategy, needs: Needs, members: Sequence[Member]) -> None:
    if len(members) < needs.members_min:
        raise ParameterError(
            f"{strategy.name} needs at least {needs.members_min} contributions, there are {len(members)}"
        )
    if needs.members_max is not None and len(members) > needs.members_max:
        raise ParameterError(
            f"{strategy.name} is defined for at most {needs.members_max} contributions, there are "
            f"{len(members)}. Select fewer in the recipe, or choose a strategy for any number."
        )
    for role in needs.roles:
        if all(member.role != role for member in members):
            raise ParameterError(
                f"{strategy.name} needs a contribution with the role {role!r}, and there is none. "
                f"Contribute with --role {role}."
            )


def _planned(outputs: Sequence[Output], coefficients: Coefficients | None) -> tuple[Output, ...]:
    """Return the outputs, or those that a published plan of layers makes of them."""
    if coefficients is None or coefficients.payload != "plan":
        return tuple(outputs)
    known = {output.name: output for output in outputs}
    made = []
    for row in coefficients.rows:
        source = known.get(row.source)
        if source is None:
            raise ParameterError(
                f"the plan of layers takes {row.output} from {row.source}, which is not there"
            )
        made.append(Output(row.output, source.dtype, source.shape, source.elements, row.source))
    return tuple(sorted(made, key=lambda output: output.name.encode()))
