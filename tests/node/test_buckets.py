"""A token bucket delays, never decides: whoever waits as long as told is let through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.node import buckets
from crdtmerge.node.buckets import Buckets


class Time:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


GAPS = st.lists(st.floats(0, 3, allow_nan=False), max_size=60)


@given(GAPS)
def test_no_schedule_gets_more_than_the_burst_and_what_fills_in_meanwhile(gaps: list[float]) -> None:
    time = Time()
    bucket = Buckets(2.0, 5.0, time)
    granted = 0
    for gap in gaps:
        time.now_s += gap
        granted += bucket.wait_s("caller") == 0
    assert granted <= 5 + 2 * sum(gaps) + 1e-6


@given(GAPS)
def test_whoever_waits_as_long_as_told_is_let_through(gaps: list[float]) -> None:
    time = Time()
    bucket = Buckets(2.0, 5.0, time)
    for gap in gaps:
        time.now_s += gap
        wait_s = bucket.wait_s("caller")
        assert 0 <= wait_s <= 0.5 + 1e-9
        if wait_s:
            time.now_s += wait_s + 1e-9
            assert bucket.wait_s("caller") == 0


def test_nobody_waits_for_anothers_flood() -> None:
    bucket = Buckets(1.0, 2.0, Time())
    for _ in range(100):
        bucket.wait_s("flood")
    assert bucket.wait_s("flood") > 0
    assert bucket.wait_s("modest") == 0


def test_more_callers_than_are_remembered_cost_no_more_memory() -> None:
    bucket = Buckets(1.0, 2.0, Time())
    for number in range(buckets.CALLERS_MAX + 100):
        bucket.wait_s(number)
    assert len(bucket._buckets) == buckets.CALLERS_MAX
