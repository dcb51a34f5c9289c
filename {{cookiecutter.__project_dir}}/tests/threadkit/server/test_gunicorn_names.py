"""The contract with gunicorn: what the kit relies on without its being documented."""

from __future__ import annotations

import inspect
import signal
import time
from types import SimpleNamespace

import pytest
from gunicorn import glogging  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.workers.base import Worker  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from threadkit.server import gunicorn_names
from threadkit.server.logger import Logger


def test_the_arbiter_keeps_its_public_sockets_in_listeners() -> None:
    assert "sock.create_sockets" in inspect.getsource(Arbiter.start)
    assert Arbiter.LISTENERS == []


def test_workers_that_cannot_boot_end_with_codes_of_their_own() -> None:
    assert {3, 4} == gunicorn_names.BOOT_FAILURES


def test_on_starting_comes_before_anything_is_bound() -> None:
    source = inspect.getsource(Arbiter.start)
    assert source.index("cfg.on_starting") < source.index("create_sockets")
    assert source.index("create_sockets") < source.index("cfg.when_ready")


def test_the_next_masters_environment_is_copied_after_pre_exec() -> None:
    assert isinstance(Config().env_orig, dict) or hasattr(Config().env_orig, "copy")
    source = inspect.getsource(Arbiter.reexec)
    assert source.index("pre_exec") < source.index("env_orig.copy()")
    assert "GUNICORN_PID" in source
    assert "GUNICORN_FD" in source


def test_a_worker_calls_worker_int_before_it_exits_on_sigquit() -> None:
    source = inspect.getsource(Worker.handle_quit)
    assert source.index("worker_int") < source.index("sys.exit")
    assert list(inspect.signature(Worker.handle_quit).parameters) == ["self", "sig", "frame"]


def test_gthread_still_takes_its_pools_lock_in_a_signal_handler() -> None:
    """Once it does not, quit_without_locks can go."""
    assert "tpool.shutdown" in inspect.getsource(ThreadWorker.handle_quit)


def test_a_quit_does_without_the_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # gunicorn waits for its log
    calls: list[object] = []
    worker = SimpleNamespace(alive=True, cfg=SimpleNamespace(worker_int=calls.append))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT)}
    try:
        gunicorn_names.quit_without_locks(worker)
        for number in before:
            with pytest.raises(SystemExit):
                signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert calls == [worker, worker]
    assert not worker.alive


def test_worker_exit_runs_while_the_workers_exit_is_under_way() -> None:
    source = inspect.getsource(Arbiter.spawn_worker)
    assert source.index("finally:") < source.index("cfg.worker_exit")


@pytest.mark.parametrize(
    ("ends", "code"),
    [(SystemExit(3), 3), (SystemExit(), 0), (SystemExit("message"), 1), (ValueError(), 0)],
    ids=["code", "none", "message", "another exception"],
)
def test_an_exit_code_is_seen_while_it_is_under_way(ends: BaseException, code: int) -> None:
    seen = []

    def end() -> None:
        try:
            raise ends
        finally:
            seen.append(gunicorn_names.exit_code())

    with pytest.raises(type(ends)):
        end()
    assert seen == [code]


def test_gunicorns_logger_is_set_up_the_way_ours_replaces(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("setup", "access", "access_log_enabled", "LOG_LEVELS"):
        assert hasattr(glogging.Logger, name)
    logger = Logger(Config())
    assert logger.error_log.handlers == []
    assert not logger.access_log_enabled
    logger.warning("hello %s", "you")
    assert caplog.messages[-1] == "hello you"
