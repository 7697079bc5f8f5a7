"""A floating-point mode that would change bits is noticed before anything is computed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from crdtmerge.arith import environment
from crdtmerge.errors import EnvironmentRefusedError


def in_own_thread(function: Callable[[], None]) -> None:
    """The mode belongs to a thread: what is done to this one is gone when it ends."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(function).result()


def test_a_healthy_thread_passes() -> None:
    environment.check()
    in_own_thread(environment.check)


def test_a_thread_that_flushes_subnormal_numbers_is_refused() -> None:
    def run() -> None:
        torch.set_flush_denormal(True)
        with pytest.raises(EnvironmentRefusedError, match="subnormal"):
            environment.check()

    in_own_thread(run)
    environment.check()


def test_the_mode_is_mended_within_the_context_and_put_back_behind_it() -> None:
    def run() -> None:
        torch.set_flush_denormal(True)
        with environment.subnormals_kept():
            environment.check()
        with pytest.raises(EnvironmentRefusedError):
            environment.check()

    in_own_thread(run)


def test_the_context_leaves_a_healthy_thread_healthy() -> None:
    with environment.subnormals_kept():
        environment.check()
    environment.check()


def test_workers_that_flush_are_noticed_though_the_calling_thread_does_not() -> None:
    def run() -> None:
        torch.set_num_threads(2)
        torch.set_flush_denormal(True)
        torch.ones(1 << 17).add_(1.0)  # starts the workers, which inherit the mode
        torch.set_flush_denormal(False)
        with pytest.raises(EnvironmentRefusedError, match="subnormal"), environment.subnormals_kept():
            pass

    in_own_thread(run)


def test_every_other_rounding_mode_is_refused() -> None:
    libm = ctypes.CDLL(None)
    modes = [0x400, 0x800, 0xC00, 0x400000, 0x800000, 0xC00000]  # x86-64 and aarch64
    refused = []

    def run() -> None:
        for mode in modes:
            if libm.fesetround(mode) == 0:
                try:
                    environment.check()
                except EnvironmentRefusedError as error:
                    refused.append(str(error))

    in_own_thread(run)
    assert sorted(text.split(":")[0] for text in refused) == [
        f"this process rounds {way}" for way in ("down", "towards zero", "up")
    ]
