"""Every decoder of what peers send survives garbage: a value or a typed error, and bounded memory."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from fuzz_targets import TARGETS, mutants

from crdtmerge import canon

INPUTS = 1500
MEMORY_BYTES = 64 << 20


@pytest.mark.parametrize("name", TARGETS)
def test_good_inputs_are_accepted(name: str) -> None:
    target = TARGETS[name]
    assert target.seeds
    assert all(target.attack(seed) for seed in target.seeds)


@pytest.mark.parametrize("name", TARGETS)
def test_garbage_near_a_good_input_is_accepted_as_written_or_refused_by_name(name: str) -> None:
    target = TARGETS[name]
    accepted = sum(target.attack(data) for data in mutants(target.seeds, name, INPUTS))
    assert accepted < INPUTS


def confused(value: canon.Value) -> Iterator[canon.Value]:
    """The same value with one 0 or 1 in it made false or true, or the other way round."""
    if isinstance(value, bool):
        yield int(value)
    elif isinstance(value, int) and value in (0, 1):
        yield bool(value)
    elif isinstance(value, (tuple, list)):
        for i, element in enumerate(value):
            for other in confused(element):
                yield (*value[:i], other, *value[i + 1 :])


@pytest.mark.parametrize(
    "name", ["attestation", "manifest", "operation", "proof", "ranges", "recipe", "record", "ticket"]
)
def test_true_is_not_1_to_any_decoder(name: str) -> None:
    target = TARGETS[name]
    inputs = [
        canon.encode(v) for seed in target.seeds for v in confused(canon.decode(seed, bytes_max=1 << 16))
    ]
    assert inputs
    for data in inputs:
        target.attack(data)


@pytest.mark.parametrize("name", TARGETS)
def test_every_prefix_of_a_good_input_is_refused_or_complete(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        for length in range(0, len(seed), max(1, len(seed) // 300)):
            target.attack(seed[:length])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for length in (1 << 10, 1 << 16, 1 << 20):
        for byte in (b"\x00", b"\x91", b"\xdd", b"\xff", b"["):
            assert not target.attack(byte * length) or name in ("canon", "message")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY_BYTES
