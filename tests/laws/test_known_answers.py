"""The bytes of every strategy that ships, written down, on whatever machine this runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from crdtmerge import selftest
from crdtmerge.errors import DivergenceError
from crdtmerge.strategy import strategies

_ENVIRONMENTS = (
    {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"},
    {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "OMP_NUM_THREADS": "2"},
    {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41", "PYTHONHASHSEED": "7"},
)


def test_every_strategy_that_ships_has_a_known_answer() -> None:
    assert set(selftest.ANSWERS) == {f"{name} {version}" for name, version in strategies()}


def test_the_known_answers_are_found_here() -> None:
    assert selftest.check() == len(selftest.ANSWERS)


@pytest.mark.parametrize("environment", _ENVIRONMENTS, ids=lambda e: next(iter(e)))
def test_the_known_answers_are_found_under_other_processors_and_thread_counts(
    environment: dict[str, str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from crdtmerge import selftest; print(selftest.check())"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == str(len(selftest.ANSWERS)), done.stderr


def test_a_machine_that_computes_other_bytes_is_told_not_to_take_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(selftest.ANSWERS, "weight_average 1", "00" * 32)
    with pytest.raises(DivergenceError, match="do not let it take part"):
        selftest.check()
