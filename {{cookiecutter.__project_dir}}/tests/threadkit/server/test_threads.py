"""Threads are made when they are needed, no more than allowed, and joined at the end."""

from __future__ import annotations

import threading

from threadkit.server.threads import Threads


def test_no_more_threads_than_allowed_and_every_job_is_done() -> None:
    names: set[str] = set()
    done: list[int] = []
    finished, gate = threading.Event(), threading.Event()

    def work(job: int) -> None:
        assert gate.wait(10)
        names.add(threading.current_thread().name)
        done.append(job)
        if len(done) == 20:
            finished.set()

    threads: Threads[int] = Threads(3, work)
    for job in range(20):
        threads.give(job)
    assert threads.waiting() == 17
    gate.set()
    assert finished.wait(10)
    assert threads.close(10) == []
    assert sorted(done) == list(range(20))
    assert names == {"request-1", "request-2", "request-3"}


def test_a_thread_that_is_free_is_used_before_another_is_made() -> None:
    names: list[str] = []
    done = threading.Semaphore(0)

    def work(_: int) -> None:
        names.append(threading.current_thread().name)
        done.release()

    threads: Threads[int] = Threads(8, work)
    threads.give(0)
    assert done.acquire(timeout=10)
    while "0 of 8 busy" not in repr(threads):
        pass
    threads.give(1)
    assert done.acquire(timeout=10)
    assert threads.close(10) == []
    assert set(names) == {"request-1"}


def test_who_is_stuck_is_named_and_does_not_hold_up_the_end() -> None:
    begun, gate = threading.Event(), threading.Event()

    def work(_: int) -> None:
        begun.set()
        gate.wait(10)

    threads: Threads[int] = Threads(1, work)
    threads.give(0)
    assert begun.wait(10)
    assert threads.close(0.05) == ["request-1"]
    gate.set()
    assert threads.close(10) == []
