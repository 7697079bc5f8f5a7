"""What holds for every test: how many examples, how many threads, and whose home.

Profiles of Hypothesis, chosen by ``HYPOTHESIS_PROFILE``:

    dev      30 examples, random      what one waits for while writing
    ci       60 examples, repeatable  the default where CI=true: a red run is red again
    nightly  5000 examples, random    looks for what nobody thought of

``ci`` is at 60, not at hundreds: the whole suite is to end within ten minutes on two cores. A test that
sets ``max_examples`` itself keeps its own number in every profile, so it should not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tiny tensors on many threads cost twice the time, and tests must not depend on the machine's cores. Tests
# about threads set the number themselves. This must stand before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

slow = [HealthCheck.too_slow]  # measures the machine, not the test
settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=slow)
settings.register_profile(
    "ci", max_examples=60, deadline=None, suppress_health_check=slow, derandomize=True, print_blob=True
)
settings.register_profile("nightly", max_examples=5000, deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture
def tmp_home(tmp_path: Path) -> Path:
    """A folder for one replica that does not exist yet."""
    return tmp_path / "home"
