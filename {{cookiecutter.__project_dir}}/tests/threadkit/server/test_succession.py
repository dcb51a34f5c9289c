"""A reload stops nobody before somebody else serves; and the names of gunicorn's it rests on."""

from __future__ import annotations

import inspect
import os
import queue
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.app.base import Application, BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]

from threadkit import peers
from threadkit.server import presence, succession
from threadkit.server.succession import Succession


def source(of: Any) -> str:
    return inspect.getsource(of)


def test_a_reload_reads_sets_up_forks_and_then_manages() -> None:
    text = source(Arbiter.reload)
    steps = ["self.app.reload()", "self.setup(self.app)", "cfg.on_reload", "self.spawn_worker()"]
    steps.append("self.manage_workers()")
    places = [text.index(step) for step in steps]
    assert places == sorted(places)
    assert "self.reload()" in source(Arbiter.handle_hup)


def test_the_master_stops_the_oldest_beyond_the_number() -> None:
    text = source(Arbiter.manage_workers)
    assert "key=lambda w: w[1].age" in text
    assert "self.num_workers" in text
    assert "SIG_QUEUE.put_nowait" in source(Arbiter.signal)
    assert list(inspect.signature(Arbiter.kill_worker).parameters) == ["self", "pid", "sig"]


def test_a_configuration_that_cannot_be_read_ends_with_systemexit() -> None:
    assert "sys.exit(1)" in source(BaseApplication.do_load_config)
    assert "sys.exit(1)" in source(Application.get_config_from_filename)
    assert "do_load_config" in source(BaseApplication.reload)


class Master:
    """An arbiter of which only what a reload touches is there; its steps are gunicorn's."""

    timeout = 5.0

    def __init__(self) -> None:
        self.cfg = SimpleNamespace(address=["a"], graceful_timeout=5, name="old")
        self.app = SimpleNamespace(cfg=self.cfg, reload=self._read)
        self.WORKERS = {n: SimpleNamespace(age=n) for n in (1, 2)}
        self.SIG_QUEUE: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.worker_age = 2
        self.num_workers = 2
        self.killed: list[tuple[int, int]] = []
        self.succeeded: list[int] = []
        """Those that knew, when they were stopped, that others serve in their place."""
        self.refuses: BaseException | None = None
        self.on_reap: Callable[[], object] = lambda: None
        self.finished = False

    def _read(self) -> None:
        self.app.cfg = SimpleNamespace(address=["a"], graceful_timeout=5, name="new")
        os.environ["TOUCHED"] = "by the configuration"
        if self.refuses is not None:
            raise self.refuses

    def reload(self) -> None:
        self.app.reload()
        self.setup(self.app)
        for _ in range(2):
            self.worker_age += 1
            self.WORKERS[self.worker_age] = SimpleNamespace(age=self.worker_age)
        self.manage_workers()
        self.finished = True

    def setup(self, app: Any) -> None:
        self.cfg = app.cfg

    def manage_workers(self) -> None:
        surplus = sorted(self.WORKERS, key=lambda pid: self.WORKERS[pid].age)
        for pid in surplus[: max(0, len(self.WORKERS) - self.num_workers)]:
            self.kill_worker(pid, signal.SIGTERM)

    def kill_worker(self, pid: int, number: int) -> None:
        self.killed.append((pid, number))
        if presence.is_succeeded(pid):
            self.succeeded.append(pid)

    def reap_workers(self) -> None:
        self.on_reap()


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Master:
    monkeypatch.setattr(peers, "_folder", tmp_path)
    monkeypatch.setattr(succession, "_TURN", 0.001)
    monkeypatch.delenv("TOUCHED", raising=False)
    master = Master()
    Succession(master).install()
    return master


OLD_STOPPED = [(1, signal.SIGTERM), (2, signal.SIGTERM)]


def test_the_old_ones_are_stopped_once_all_new_ones_have_loaded(master: Master) -> None:
    states: list[Any] = []

    def reap() -> None:
        states.append(list(master.killed))
        presence.announce(min(pid for pid in (3, 4) if not presence.all_loaded([pid])))

    master.on_reap = reap
    master.reload()
    assert states == [[], []]
    assert master.killed == OLD_STOPPED
    assert master.succeeded == [1, 2]
    assert master.finished
    assert master.cfg.name == "new"


@pytest.mark.parametrize("error", [SystemExit(1), ValueError("bad")])
def test_a_configuration_that_is_refused_changes_nothing(
    master: Master, error: BaseException
) -> None:
    master.refuses = error
    master.reload()
    assert master.killed == []
    assert not master.finished
    assert (master.cfg.name, master.app.cfg.name) == ("old", "old")
    assert "TOUCHED" not in os.environ
    assert list(master.WORKERS) == [1, 2]


def test_where_a_new_one_cannot_start_all_of_them_go_and_the_old_ones_stay(
    master: Master,
) -> None:
    def reap() -> None:
        if not master.killed:
            presence.announce(3)
            del master.WORKERS[4]  # it has ended
        else:
            del master.WORKERS[3]

    master.on_reap = reap
    master.reload()
    assert master.killed == [(3, signal.SIGTERM), (4, signal.SIGKILL)]
    assert master.succeeded == []
    assert list(master.WORKERS) == [1, 2]
    assert master.cfg.name == "old"
    assert not master.finished


def test_one_that_never_starts_is_given_up_after_the_time_out(master: Master) -> None:
    master.timeout = 0.05

    def reap() -> None:
        for pid, _ in master.killed:
            master.WORKERS.pop(pid, None)

    master.on_reap = reap
    master.reload()
    assert {pid for pid, _ in master.killed} == {3, 4}
    assert list(master.WORKERS) == [1, 2]


def test_a_stop_does_not_wait_for_a_reload_and_is_not_lost(master: Master) -> None:
    for number in (signal.SIGCHLD, signal.SIGTERM):
        master.SIG_QUEUE.put(number)
    master.reload()
    assert master.finished
    assert master.succeeded == []
    assert [master.SIG_QUEUE.get_nowait() for _ in range(2)] == [signal.SIGCHLD, signal.SIGTERM]


def test_outside_of_a_reload_the_master_manages_as_ever(master: Master) -> None:
    master.num_workers = 1
    master.manage_workers()
    assert master.killed == [(1, signal.SIGTERM)]
    assert master.succeeded == []  # nobody has said that the other one serves


def test_one_worker_fewer_is_no_stop_of_the_service(master: Master) -> None:
    presence.announce(2)
    master.num_workers = 1
    master.manage_workers()
    assert master.succeeded == [1]
    assert not presence.is_succeeded(2)
