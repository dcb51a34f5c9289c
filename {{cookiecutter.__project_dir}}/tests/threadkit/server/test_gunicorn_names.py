"""The contract with gunicorn: what the kit relies on without its being documented."""

from __future__ import annotations

import inspect
import signal
import time
from types import SimpleNamespace

import pytest
from gunicorn import glogging, systemd  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.workers.base import Worker  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from threadkit.server import gunicorn_names, refusals
from threadkit.server.head import Head
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


def test_a_worker_class_finds_in_its_base_what_the_kits_needs() -> None:
    source = inspect.getsource(Worker.__init__) + inspect.getsource(Worker.init_process)
    for name in ("ppid", "sockets", "nr", "max_requests", "alive", "PIPE"):
        assert f"self.{name} = " in source, name
    assert "set_wakeup_fd(self.PIPE[1])" in inspect.getsource(Worker.init_signals)
    # The application is there before run, and what run raises or returns ends the process.
    assert source.index("load_wsgi") < source.index("post_worker_init") < source.index("self.run()")


def test_the_parser_reads_a_head_from_anything_that_reads() -> None:
    request = gunicorn_names.Request
    assert list(inspect.signature(request.__init__).parameters) == [
        *("self", "cfg", "unreader", "peer_addr", "req_number")
    ]
    head = Head(Config(), b"GET /a?b HTTP/1.1\r\nHost: x\r\nA-b: c\r\n\r\n", ("::1", 1), 1)
    assert (head.method, head.path, head.query, head.version) == ("GET", "/a", "b", (1, 1))
    assert head.headers == [("HOST", "x"), ("A-B", "c")]
    assert not head.should_close()


@pytest.mark.parametrize(
    "fields",
    [
        *(
            b"Content-Length: 1\r\nTransfer-Encoding: chunked",
            b"Content-Length: 1\r\n" * 2 + b"A: b",
        ),
        *(b"Host : x", b"A: b\r\n c", b"A: \x00", b"A: b\rc", b"Host: x\r\nHost: y", b": x"),
    ],
)
def test_the_parser_refuses_a_malformed_head(fields: bytes) -> None:
    with pytest.raises(gunicorn_names.errors.ParseException):
        Head(Config(), b"GET / HTTP/1.1\r\n" + fields + b"\r\n\r\n", ("::1", 1), 1)


def test_every_error_of_the_parser_has_its_answer() -> None:
    for name, status in (
        *(("LimitRequestLine", 414), ("LimitRequestHeaders", 431), ("ExpectationFailed", 417)),
        *(("InvalidHTTPVersion", 505), ("ConfigurationProblem", 500), ("InvalidHeader", 400)),
    ):
        kind = getattr(gunicorn_names.errors, name)
        assert issubclass(kind, gunicorn_names.errors.ParseException)
        assert refusals.from_parser(kind.__new__(kind)).status == status


def test_the_writer_sends_by_the_two_methods_that_the_kit_replaces() -> None:
    response = gunicorn_names.Response
    assert "self._emit_body(arg)" in inspect.getsource(response.write)
    assert "self.send_headers()" in inspect.getsource(response.write)
    assert "self.headers_sent = True" in inspect.getsource(response.send_headers)
    assert list(inspect.signature(response.__init__).parameters) == ["self", "req", "sock", "cfg"]
    assert "wsgi.input_terminated" in gunicorn_names.base_environ(Config())


def test_the_writer_knows_what_was_announced_and_what_was_sent() -> None:
    request = SimpleNamespace(method="GET", version=(1, 1), should_close=lambda: False)
    made = gunicorn_names.Response(request, None, Config())
    made.start_response("200 OK", [("Content-Length", "5")])
    facts = (made.response_length, made.sent, made._omits_body, made.must_close, made.chunked)
    assert facts == (5, 0, False, False, False)
    assert "self.sent += tosend" in inspect.getsource(made.write)
    request.method = "HEAD"
    bodiless = gunicorn_names.Response(request, None, Config())
    bodiless.start_response("200 OK", [("Content-Length", "5")])
    assert bodiless._omits_body
    request.method = "GET"
    unannounced = gunicorn_names.Response(request, None, Config())
    unannounced.start_response("200 OK", [])
    assert unannounced.chunked
    unannounced.must_close = True
    assert unannounced.should_close()


def test_the_master_counts_its_workers_where_the_kit_does() -> None:
    assert Arbiter.WORKERS == {}
    assert isinstance(Arbiter.num_workers, property)
    assert "self.num_workers = self.cfg.workers" in inspect.getsource(Arbiter.setup)
    assert "self.timeout = self.cfg.timeout" in inspect.getsource(Arbiter.setup)
    spawn = inspect.getsource(Arbiter.spawn_worker)
    assert spawn.index("self.worker_age += 1") < spawn.index("self.worker_class(self.worker_age")
    assert "self.WORKERS[pid] = worker" in spawn
    assert "self.age = age" in inspect.getsource(Worker.__init__)


def test_inherited_sockets_are_named_in_the_environment() -> None:
    start = inspect.getsource(Arbiter.start)
    assert "GUNICORN_FD" in start
    assert "GUNICORN_PID" in start
    assert "LISTEN_FDS" in inspect.getsource(systemd.listen_fds)


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
