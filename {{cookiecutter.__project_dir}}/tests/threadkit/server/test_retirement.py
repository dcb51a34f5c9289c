"""A worker that asks for a successor, and the master that counts."""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from threadkit import peers
from threadkit.server import retirement

Sent = list[tuple[int, signal.Signals]]


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Signals that would have been sent."""
    signals: Sent = []
    monkeypatch.setattr(peers, "_folder", tmp_path)
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    return signals


def worker(*, alive: bool = True) -> SimpleNamespace:
    return SimpleNamespace(pid=4711, ppid=11, alive=alive)


def arbiter(workers: int) -> SimpleNamespace:
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    return SimpleNamespace(num_workers=workers, cfg=SimpleNamespace(workers=2), SIG_QUEUE=waiting)


def test_one_more_is_asked_for_before_the_worker_stops(sent: Sent) -> None:
    retirement.retire(worker())
    assert sent == [(11, signal.SIGTTIN), (4711, signal.SIGTERM)]


def test_a_worker_that_leaves_anyway_asks_for_nothing(sent: Sent) -> None:
    retirement.retire(worker(alive=False))
    assert sent == []


@pytest.mark.parametrize(("before", "after"), [(3, 2), (5, 4), (2, 2), (1, 1)])
def test_the_master_counts_one_fewer_once_it_has_gone(sent: Sent, before: int, after: int) -> None:
    retirement.retire(worker())
    master = arbiter(before)
    retirement.settle(master, 4711)
    assert master.num_workers == after
    retirement.settle(master, 4711)
    assert master.num_workers == after


def test_whoever_asked_twice_is_two_fewer(sent: Sent) -> None:
    retirement.ask_for_successor(worker())
    retirement.retire(worker())
    assert [number for _, number in sent] == [signal.SIGTTIN, signal.SIGTTIN, signal.SIGTERM]
    master = arbiter(5)
    retirement.settle(master, 4711)
    assert master.num_workers == 3


def test_what_it_asked_for_in_a_reload_is_taken_back_unheard(sent: Sent) -> None:
    retirement.retire(worker())
    master = arbiter(2)
    came = [signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTIN, signal.SIGTERM]
    for number in came:
        master.SIG_QUEUE.put(number)
    retirement.settle(master, 4711)
    came.remove(signal.SIGTTIN)  # the other one is of somebody else
    assert [master.SIG_QUEUE.get_nowait() for _ in range(3)] == came
    assert master.SIG_QUEUE.empty()
    assert master.num_workers == 2


def test_any_other_worker_that_goes_is_simply_started_again(sent: Sent) -> None:
    retirement.retire(worker())
    master = arbiter(3)
    retirement.settle(master, 99)
    assert master.num_workers == 3


def test_without_a_shared_folder_it_only_stops(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_folder", None)
    retirement.retire(worker())
    assert sent == [(4711, signal.SIGTERM)]


def test_gunicorn_adds_a_worker_on_sigttin_and_reaps_before_it_counts() -> None:
    import inspect

    from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]

    source: Callable[..., str] = inspect.getsource
    assert "self.num_workers += 1" in source(Arbiter.handle_ttin)
    reap = source(Arbiter.reap_workers)
    assert reap.index("WORKERS.pop") < reap.index("cfg.child_exit")
    assert "self.num_workers = self.cfg.workers" in source(Arbiter.setup)
