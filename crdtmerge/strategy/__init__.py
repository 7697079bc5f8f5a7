"""What a merge strategy is, and the one door by which strategies come in.

A strategy is a pure function from a *tile* to the merged tile:

    base   [n] ─┐
    models [n] ─┤  k contributions, ascending by digest      ──►  merged [n], float64
    deltas [n] ─┘  (the engine decodes, tiles and rounds)

A tile is the same run of elements of one tensor in the base and in every contribution (`tile`). The function
sees float64 and returns float64; decoding before it and the one rounding after it belong to the engine, and
so do order, tiling, threads and memory. A strategy that must know something about the whole tensor or the
whole model first (a norm, a k-th magnitude) declares a *survey*, which is fed every tile beforehand.

What else a strategy needs (a base, evidence, roles, published coefficients, whole rows or tensors) is
declared (`needs`) and checked before any work. A strategy may take another one as its parameter (`inner`).

Strategies are found through the entry-point group ``crdtmerge.strategies``; those that ship with the package
come in by the same door as anybody else's (`registry`).
"""

from crdtmerge.parameters import Choice, Flag, Integer, Number, ParameterSpec, Text

from .inner import Bound, Inner
from .needs import Needs
from .registry import Strategy, find, pin, strategies, strategy
from .tile import Factors, Group, Member, Survey, Tile

__all__ = [
    "Bound",
    "Choice",
    "Factors",
    "Flag",
    "Group",
    "Inner",
    "Integer",
    "Member",
    "Needs",
    "Number",
    "ParameterSpec",
    "Strategy",
    "Survey",
    "Text",
    "Tile",
    "find",
    "pin",
    "strategies",
    "strategy",
]
