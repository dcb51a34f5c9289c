"""What the hooks do, without a gunicorn; the end-to-end tests have one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from threadkit import runtime
from threadkit.runtime import Runtime
from threadkit.server import boot, hooks, metrics_folder
from threadkit.server.hooks import Hooks
from threadkit.settings import Settings


class Recorder:
    """A resource that remembers what was done to it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def abandon(self) -> None:
        self.calls.append("abandon")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Leaving makes a process deaf; undo it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hooks, Recorder]]:
    """Hooks, and a resource of the application that this process serves."""
    monkeypatch.setattr(hooks, "_serving", None)
    monkeypatch.setattr(runtime, "_live", None)
    settings = Settings(database_url="sqlite:///x.db")
    live, recorder = Runtime(settings), Recorder()
    live.add("recorder", recorder)
    runtime.install(live)
    yield Hooks(settings), recorder
    live.close()


WORKER = SimpleNamespace(pid=os.getpid())
OTHER = SimpleNamespace(pid=os.getpid() + 1)


def test_a_worker_starts_what_its_application_needs_and_closes_it(
    kit: tuple[Hooks, Recorder],
) -> None:
    served, recorder = kit
    served.post_worker_init(WORKER)
    assert recorder.calls == ["start"]
    served.worker_exit(None, WORKER)
    assert recorder.calls == ["start", "close"]


def test_a_worker_that_never_served_starts_nothing_in_order_to_leave(
    kit: tuple[Hooks, Recorder],
) -> None:
    served, recorder = kit
    served.worker_exit(None, WORKER)
    assert recorder.calls == []


def test_the_master_closes_nothing_for_a_worker_that_vanished(
    kit: tuple[Hooks, Recorder],
) -> None:
    served, recorder = kit
    served.post_worker_init(WORKER)
    served.worker_exit(None, OTHER)
    assert recorder.calls == ["start"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_does_not_interrupt_leaving(
    kit: tuple[Hooks, Recorder], number: signal.Signals
) -> None:
    served, recorder = kit
    served.post_worker_init(WORKER)
    served.worker_int(WORKER)
    signal.raise_signal(number)
    served.worker_exit(None, WORKER)
    signal.raise_signal(number)
    assert recorder.calls == ["start", "close"]


def test_an_application_of_another_make_is_refused_with_the_remedy(
    kit: tuple[Hooks, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, _ = kit
    monkeypatch.setattr(runtime, "_live", None)
    with pytest.raises(RuntimeError, match="create_app"):
        served.post_worker_init(WORKER)


def test_only_the_first_worker_that_cannot_boot_reports_it() -> None:
    folder = metrics_folder.claim()
    boot.settle(3)
    boot.settle(3)  # the same worker: it has logged the error before it leaves
    (folder / "boot-failed").write_text("1")
    with pytest.raises(SystemExit) as ended:
        boot.settle(4)
    assert ended.value.code == 0


@pytest.mark.parametrize("code", [0, 1, 255])
def test_other_ends_are_left_as_they_are(code: int) -> None:
    folder: Path = metrics_folder.claim()
    boot.settle(code)
    assert list(folder.iterdir()) == []
