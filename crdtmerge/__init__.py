"""Peer-to-peer merging of fine-tuned models: every replica computes the same model, byte for byte.

    merge      state dicts in memory, in one call
    Replica    a folder (or memory) that takes part in a federation
    Recipe     which merge is computed

Names are loaded when they are first used, so that programs which compute on no tensor (the node, most
commands) never load the tensor library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from crdtmerge.digest import Digest
    from crdtmerge.errors import (
        CrdtMergeError,
        DivergenceError,
        NotYetError,
        RejectedError,
        StoreError,
        UsageError,
    )
    from crdtmerge.keys import NodeId
    from crdtmerge.manifest import Kind, Manifest
    from crdtmerge.merkle import Proof
    from crdtmerge.recipe import Recipe, Rule, Selection
    from crdtmerge.replica import Replica
    from crdtmerge.resolve import merge
    from crdtmerge.visible import View

_HOME: Final = {
    "CrdtMergeError": "errors",
    "Digest": "digest",
    "DivergenceError": "errors",
    "Kind": "manifest",
    "Manifest": "manifest",
    "NodeId": "keys",
    "NotYetError": "errors",
    "Proof": "merkle",
    "Recipe": "recipe",
    "RejectedError": "errors",
    "Replica": "replica",
    "Rule": "recipe",
    "Selection": "recipe",
    "StoreError": "errors",
    "UsageError": "errors",
    "View": "visible",
    "merge": "resolve",
}

__all__ = [
    "CrdtMergeError",
    "Digest",
    "DivergenceError",
    "Kind",
    "Manifest",
    "NodeId",
    "NotYetError",
    "Proof",
    "Recipe",
    "RejectedError",
    "Replica",
    "Rule",
    "Selection",
    "StoreError",
    "UsageError",
    "View",
    "merge",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
