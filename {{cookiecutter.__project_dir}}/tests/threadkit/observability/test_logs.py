"""One record a line, whatever is logged, by whomever, into whatever."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from threadkit.context import bound, request_id
from threadkit.observability import logs
from threadkit.settings import Settings

Lines = Callable[[], list[str]]
Records = Callable[[], list[dict[str, Any]]]

FORGED = '\n{"timestamp":"2000-01-01T00:00:00Z","level":"info","event":"forged"}\n'
HOSTILE = [
    FORGED,
    "\r\n12:00:00.000 info     forged",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m\x85next\u2028line\u2029paragraph",
    "\u202egnp.exe",
    "\x00\x7f",
    "lone \ud800 surrogate \udcff",
    "日本 🍵",
]


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError(FORGED)


log = structlog.get_logger("test.logger")


def test_a_record_says_when_how_bad_what_who_and_where(records: Records) -> None:
    token = request_id.set("r-1")
    try:
        log.warning("tea is out", item=7)
    finally:
        request_id.reset(token)
    (record,) = records()
    written = datetime.fromisoformat(record.pop("timestamp"))
    assert written.utcoffset() == UTC.utcoffset(None)
    assert abs((datetime.now(UTC) - written).total_seconds()) < 60
    assert record == {
        "level": "warning",
        "event": "tea is out",
        "logger": "test.logger",
        "request_id": "r-1",
        "pid": os.getpid(),
        "item": 7,
    }


def test_outside_a_request_there_is_no_request_id(records: Records) -> None:
    log.info("hello")
    assert "request_id" not in records()[0]


def test_the_standard_librarys_records_have_the_same_fields(records: Records) -> None:
    logging.getLogger("sqlalchemy.pool").warning("%s of %d", "one", 2, extra={"pool": "read"})
    (record,) = records()
    assert record["event"] == "one of 2"
    assert (record["level"], record["logger"]) == ("warning", "sqlalchemy.pool")
    assert (record["pid"], record["pool"]) == (os.getpid(), "read")


def test_warnings_are_log_records(records: Records) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old\nways", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    (record,) = records()
    assert record["logger"] == "py.warnings"
    assert "old\nways" in record["event"]


def test_bound_values_appear_until_their_block_ends(records: Records) -> None:
    with bound(tenant="acme"), bound(job=3):
        log.info("inside")
    log.info("outside")
    inside, outside = records()
    assert (inside["tenant"], inside["job"]) == ("acme", 3)
    assert "tenant" not in outside


def test_a_field_cannot_replace_what_a_record_says_about_itself(records: Records) -> None:
    log.info("real", level="critical", timestamp="1970", logger="forged", pid=0, request_id="x")
    (record,) = records()
    assert (record["level"], record["logger"], record["pid"]) == (
        "info",
        "test.logger",
        os.getpid(),
    )
    assert record["level_"] == "critical"
    assert "request_id" not in record


@pytest.mark.parametrize("value", HOSTILE)
def test_json_keeps_hostile_values_within_their_line(records: Records, value: str) -> None:
    log.info(value, path=value, **{value: value}, nested={value: [value]})
    logging.getLogger("other").error("%s", value, extra={"header": value})
    structlog_record, stdlib_record = records()
    assert structlog_record["event"] == structlog_record["path"] == stdlib_record["header"]


@pytest.mark.parametrize("value", HOSTILE)
def test_json_holds_no_character_that_steers_a_terminal(
    records: Records, capfd: pytest.CaptureFixture[str], value: str
) -> None:
    log.info("x", value=value)
    written = capfd.readouterr().out.removesuffix("\n")
    assert [c for c in written if not c.isprintable()] == []


@pytest.mark.parametrize("value", HOSTILE)
def test_the_console_keeps_hostile_values_within_their_line(console: Lines, value: str) -> None:
    log.info(value, path=value, **{value: value})
    logging.getLogger(value).error(value)
    lines = console()
    assert len(lines) == 2
    assert all(c.isprintable() for line in lines for c in line)


def test_no_console_value_can_pass_for_another_field(console: Lines) -> None:
    log.info("x", path="/ status=200", name='a"b')
    (line,) = console()
    assert 'path="/ status=200"' in line
    assert 'name="a\\"b"' in line


@pytest.mark.parametrize("value", HOSTILE)
def test_no_line_of_a_traceback_can_pass_for_a_record(console: Lines, value: str) -> None:
    try:
        raise ValueError(value)
    except ValueError:
        log.exception("failed")
    first, *traceback = console()
    assert "failed" in first
    assert len(traceback) > 2
    assert all(line.startswith("    | ") and line.isprintable() for line in traceback)


def test_json_has_the_traceback_in_a_field(records: Records) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        log.error("by structlog", exc_info=error)
        logging.getLogger("lib").exception("by logging")
    for record in records():
        assert record["exception"].startswith("Traceback")
        assert FORGED.rstrip("\n") in record["exception"]


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"\xff\x00", 2**70, float("nan"), Unprintable(), Exception("x")],
    ids=type,
)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_cannot_be_encoded_still_makes_a_line(
    request: pytest.FixtureRequest, log_format: str, value: object
) -> None:
    written = request.getfixturevalue("records" if log_format == "json" else "console")
    log.info("odd", value=value, again=[{"x": value}], low=-(2**70), surrogate="\udc80")
    logging.getLogger("lib").info("odd %s", "x", extra={"value": value})
    assert len(written()) == 2


def test_a_record_that_contains_itself_still_makes_a_line(records: Records) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    log.info("cycle", cycle=cycle)
    assert records()[0]["event"] == "cycle"


def test_arguments_that_do_not_fit_are_reported_in_the_line(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if type(handler).__module__ == logs.__name__]
    monkeypatch.setattr(root, "handlers", ours)  # pytest's own would raise
    logging.getLogger("lib").info("%d items", "many")
    (record,) = records()
    assert "%d items" in record["event"]
    assert "does not fit" in record["event"]


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    value=st.recursive(
        st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
        max_leaves=10,
    ),
    text=st.text(alphabet=st.characters(categories=None)),
)
def test_any_value_makes_exactly_one_json_line(records: Records, value: object, text: str) -> None:
    log.info(text, value=value, text=text)
    (record,) = records()
    assert record["logger"] == "test.logger"


def test_level_and_format_can_be_changed_and_no_handler_piles_up(
    records: Records, capfd: pytest.CaptureFixture[str]
) -> None:
    before = len(logging.getLogger().handlers)
    held = structlog.get_logger("held")
    held.info("seen")
    for _ in range(3):
        logs.configure(
            Settings(database_url="sqlite:///x.db", log_format="console", log_level="ERROR")
        )
    held.info("not seen")
    held.error("seen again")
    logging.getLogger("lib").warning("not seen")
    first, second = capfd.readouterr().out.splitlines()
    assert first.startswith("{")
    assert "seen again" in second
    assert len(logging.getLogger().handlers) == before


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EBADF])
def test_a_broken_stdout_breaks_nobody(
    records: Records, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def broken(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", broken)
        log.info("lost")
        logging.getLogger("lib").error("lost")
    log.info("back")
    assert [record["event"] for record in records()] == ["back"]


def test_a_partial_write_is_completed(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda fd, line: write(fd, line[:7]))
        log.info("whole", filler="x" * 100)
    assert records()[0]["filler"] == "x" * 100


def test_lines_of_many_threads_do_not_mix(records: Records) -> None:
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait(10)
        for index in range(50):
            log.info("line", number=number, index=index, filler="x" * 500)

    threads = [threading.Thread(target=write, args=(n,), name=f"writer-{n}") for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({(r["number"], r["index"]) for r in records()}) == 400


def test_a_fork_while_others_log_finds_nothing_locked() -> None:
    script = """
import os, threading, structlog, logging
from threadkit.observability import logs
from threadkit.settings import Settings
logs.configure(Settings(database_url="sqlite:///x.db"))
log, stop = structlog.get_logger("t"), threading.Event()
def busy():
    while not stop.is_set():
        log.info("parent"); logging.getLogger("l").info("parent")
thread = threading.Thread(target=busy, name="busy"); thread.start()
codes = []
for _ in range(30):
    pid = os.fork()
    if not pid:
        log.info("child"); logging.getLogger("l").info("child")
        os._exit(7)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set(); thread.join(10)
assert codes == [7] * 30, codes
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b'"event":"child"') == 60
