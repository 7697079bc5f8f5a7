"""The bytes of every strategy that ships, written down, on whatever machine this runs.

Under other processors and thread counts: tests/arith/test_portability.py.
"""

from __future__ import annotations

import pytest

from crdtmerge import selftest
from crdtmerge.errors import DivergenceError
from crdtmerge.strategy import strategies


def test_every_strategy_that_ships_has_a_known_answer() -> None:
    assert set(selftest.ANSWERS) == {f"{name} {version}" for name, version in strategies()}


def test_the_known_answers_are_found_here() -> None:
    assert selftest.check() == len(selftest.ANSWERS)


def test_a_machine_that_computes_other_bytes_is_told_not_to_take_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(selftest.ANSWERS, "weight_average 1", "00" * 32)
    with pytest.raises(DivergenceError, match="do not let it take part"):
        selftest.check()
