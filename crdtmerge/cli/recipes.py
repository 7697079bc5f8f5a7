"""Recipes as people write them: a strategy's name with options, or a YAML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from crdtmerge.digest import from_hex
from crdtmerge.errors import ParameterError, UsageError
from crdtmerge.rational import is_decimal
from crdtmerge.recipe import Parameter, Recipe, Rule, Selection

from .screen import pairs

_FIELDS = {
    "strategy",
    "version",
    "parameters",
    "rules",
    "selection",
    "weighting",
    "weights",
    "output_dtype",
    "seed_scope",
}


def read(text: str, options: Iterable[str]) -> Recipe:
    """Return the recipe that ``text`` names: a strategy, or a YAML file.

    Args:
        text: name or path.
        options: ``key=value`` words: parameters of a named strategy; ``0.2,0.5,1`` is a gradient.

    Raises:
        UsageError: if it cannot be read.
    """
    given = {name: _stops(value) for name, value in pairs(options, "a parameter").items()}
    if not fnmatchcase(text, "*.y*ml"):
        return Recipe(text, **given)  # type: ignore[arg-type]
    if given:
        raise UsageError("parameters go into the recipe's file, not beside it")
    return from_mapping(document(Path(text)))


def document(path: Path) -> Any:
    """Return what a YAML file says.

    Raises:
        UsageError: if it cannot be read.
    """
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as a recipe: {error}") from error


def _stops(text: str) -> str | list[str]:
    """Return numbers between commas as the stops of a gradient."""
    stops = text.split(",")
    return stops if len(stops) > 1 and all(map(is_decimal, stops)) else text


def from_mapping(document: Any) -> Recipe:
    """Return the recipe that a parsed YAML document describes.

    Raises:
        ParameterError: naming the field at fault.
    """
    fields = _mapping(document, _FIELDS, "a recipe")
    if "strategy" not in fields:
        raise ParameterError("a recipe needs a strategy")
    try:
        rules = [
            Rule.of(rule["glob"], rule["strategy"], version=rule.get("version"), **rule.get("parameters", {}))
            for rule in (
                _mapping(row, {"glob", "strategy", "version", "parameters"}, "a rule")
                for row in fields.get("rules") or ()
            )
        ]
        chosen = _mapping(
            fields.get("selection") or {}, {"labels", "authors", "metric", "at_least"}, "a selection"
        )
        selection = Selection(
            labels=tuple(chosen.get("labels") or ()),
            authors=tuple(from_hex(author) for author in chosen.get("authors") or ()),
            metric=chosen.get("metric"),
            at_least=None if chosen.get("at_least") is None else str(chosen["at_least"]),
        )
        return Recipe(
            fields["strategy"],
            version=fields.get("version"),
            rules=rules,
            selection=selection,
            weighting=fields.get("weighting", "uniform"),
            weights={from_hex(key): value for key, value in (fields.get("weights") or {}).items()},
            output_dtype=fields.get("output_dtype"),
            seed_scope=fields.get("seed_scope", "root"),
            **(fields.get("parameters") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ParameterError(f"a recipe's field is wrong or missing: {error}") from error


def describe(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as `from_mapping` reads it, leaving out what is default."""
    described: dict[str, Any] = {"strategy": recipe.strategy}
    if recipe.version is not None:
        described["version"] = recipe.version
    if recipe.parameters:
        described["parameters"] = _plain(recipe.parameters)
    if recipe.rules:
        described["rules"] = [
            {"glob": r.glob, "strategy": r.strategy, "version": r.version, "parameters": _plain(r.parameters)}
            for r in recipe.rules
        ]
    chosen = recipe.selection
    if chosen != Selection():
        fields = {
            "labels": list(chosen.labels),
            "authors": [author.hex() for author in chosen.authors],
            "metric": chosen.metric,
            "at_least": chosen.at_least,
        }
        described["selection"] = {name: value for name, value in fields.items() if value}
    if recipe.weighting.value != "uniform":
        described["weighting"] = recipe.weighting.value
    if recipe.weights:
        described["weights"] = {digest.hex(): weight for digest, weight in recipe.weights}
    if recipe.output_dtype is not None:
        described["output_dtype"] = recipe.output_dtype.code
    if recipe.seed_scope != "root":
        described["seed_scope"] = recipe.seed_scope
    return described


def _plain(parameters: Iterable[tuple[str, Parameter]]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in parameters}


def _mapping(value: Any, known: set[str], what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ParameterError(f"{what} is a mapping, got {type(value).__name__}")
    if unknown := sorted(set(value) - known):
        raise ParameterError(f"{what} has no field {unknown[0]!r}; fields are {', '.join(sorted(known))}")
    return value
