"""What a stop of all threads would take, by the kernel's own accounts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from threadkit.profiling.processors import Turn, stop_takes, turns


def test_it_is_the_mean_wait_for_each_of_the_threads() -> None:
    before = {"1": Turn(1_000_000, 10), "2": Turn(0, 0), "gone": Turn(9_000_000, 1)}
    after = {"1": Turn(5_000_000, 12), "2": Turn(0, 1), "new": Turn(2_000_000, 1)}
    assert stop_takes(before, after) == pytest.approx(3 * 6e-3 / 4)


def test_where_nobody_ran_nothing_is_known() -> None:
    assert stop_takes({"1": Turn(5, 1)}, {"1": Turn(5, 1)}) == 0
    assert stop_takes({}, {}) == 0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="not in this kernel")
def test_every_thread_has_an_account() -> None:
    before = turns()
    assert str(threading.get_native_id()) in before
    threading.Event().wait(0.001)
    assert 0 <= stop_takes(before, turns()) < 60
