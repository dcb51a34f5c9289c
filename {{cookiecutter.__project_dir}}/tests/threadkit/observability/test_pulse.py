"""The pulse and the collector's watch: what makes every request late at once."""

from __future__ import annotations

import gc
import threading
from time import monotonic, sleep

from threadkit.observability.garbage import Garbage
from threadkit.observability.pulse import INTERVAL, Pulse


def measured(pulse: Pulse, count: int) -> dict[str, float]:
    until = monotonic() + 10
    while pulse.stats()["measurements"] < count and monotonic() < until:
        sleep(0.02)
    return dict(pulse.stats())


def test_without_a_thread_there_are_no_figures() -> None:
    assert Pulse().stats()["p50"] is None


def test_it_measures_and_ends_with_its_owner() -> None:
    pulse = Pulse()
    pulse.start()
    try:
        figures = measured(pulse, 3)
    finally:
        pulse.close()
    assert 0 <= figures["p50"] <= figures["p99"] <= figures["max"]
    assert not any(thread.name == "pulse" for thread in threading.enumerate())


def test_threads_that_compute_show_as_lateness() -> None:
    """Four of them keep the interpreter for a switch interval each, so 5 ms at the least."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(2000))

    pulse = Pulse()
    pulse.start()
    calm = measured(pulse, 5)["p50"]
    threads = [threading.Thread(target=compute) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        pulse.stats()
        before = pulse.stats()["measurements"]
        busy = measured(pulse, int(before) + 10)["max"]
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
        pulse.close()
    assert busy > 0.004
    assert busy > calm
    assert busy < 20 * INTERVAL


def test_collections_and_their_pauses_are_counted_until_it_closes() -> None:
    garbage = Garbage()
    garbage.start()
    garbage.start()  # in a forked child the callback is there already
    before = garbage.stats()
    gc.collect()
    after = garbage.stats()
    garbage.close()
    assert after["generations"][2]["collections"] == before["generations"][2]["collections"] + 1
    assert after["pause_seconds_total"] > before["pause_seconds_total"]
    assert 0 < after["pause_seconds_last"] <= after["pause_seconds_total"]
    gc.collect()
    assert garbage.stats()["pause_seconds_total"] == after["pause_seconds_total"]
