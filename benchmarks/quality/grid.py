"""Which strategies are compared, and what is tried for each: defaults first, then a short list of settings.

Tuning picks the best setting on held-out examples of all tasks; the table reports both on test examples.
"""

from __future__ import annotations

from typing import Final

from crdtmerge.strategy import find, strategies

SCALES: Final = ("0.2", "0.4", "0.7", "1")
"""λ, tried for everything that has one."""

OTHER: Final[dict[str, list[dict[str, object]]]] = {
    "ties": [{"density": d, "scale": s} for d in ("0.2", "0.5") for s in ("0.5", "1")],
    "dare": [{"p": p} for p in ("0.5", "0.9")],
    "dare_ties": [{"p": p, "scale": s} for p in ("0.5", "0.9") for s in ("0.5", "1")],
    "della": [{"scale": s} for s in ("0.3", "0.6")],
    "trimmed_mean": [{"b": b} for b in (1, 2)],
    "nearswap": [{"t": t} for t in ("0.0001", "0.001", "0.01")],
    "sce": [{"select_topk": k} for k in ("0.2", "0.5")],
    "star": [{"eta": e} for e in ("20", "60")],
}

PAIRS: Final = ("nuslerp", "passthrough", "layer_plan", "wsa_posthoc")
"""For two contributions, or one; and a second name: not compared."""

LAST: Final = ("arcee_fusion", "iso_c", "iso_cts", "star", "svd_knot_tying", "dual_projection", "tsv_merge")
"""Slow: compared after all others."""

NEEDS: Final = ("role", "evidence", "coefficients")


def compared() -> list[str]:
    """Return the strategies of class P that merge any number without roles, slow ones last."""
    names = [
        name
        for name, _ in strategies()
        if name not in PAIRS and not any(word.startswith(NEEDS) for word in find(name).declared.words())
    ]
    return sorted(names, key=lambda name: (name in LAST, name))


def settings(name: str) -> list[dict[str, object]]:
    """Return the settings to try, the default first."""
    found = [{}, *OTHER.get(name, [])]
    if name not in OTHER and any(spec.name == "scale" for spec in find(name).parameters):
        found += [{"scale": scale} for scale in SCALES]
    return found
