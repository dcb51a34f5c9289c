"""Log lines of the whole process: structlog's and the standard library's, on one stream.

Every record carries ``timestamp`` (UTC), ``level``, ``event``, ``logger``, ``request_id``
where there is one, and the worker's ``pid``; see ``encoding`` for why no value can forge
a second record.

    configure(settings)
    log = structlog.get_logger("shop.orders")
    log.info("order placed", order=order.id)

A line is one ``write`` to file descriptor 1: no lock is held, so a fork at any moment
finds nothing locked, and a line below ``PIPE_BUF`` never mixes with another worker's.
Logging never raises: a line that cannot be written is lost, a request is not.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import structlog
from structlog.contextvars import get_contextvars

from threadkit.context import log_context, request_id
from threadkit.observability import encoding
from threadkit.settings import Settings

_STDOUT: Final = 1
_RESERVED: Final = frozenset({"timestamp", "level", "event", "logger", "request_id", "pid"})
_PLAIN_RECORD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_NAMES: Final = {"warn": "warning", "fatal": "critical", "exception": "error"}

_level: int = logging.INFO
_encode: Callable[[encoding.Record], bytes] = encoding.to_json


def configure(settings: Settings) -> None:
    """Send all log lines of this process to stdout, as the settings say.

    Idempotent; a later call changes level and format of loggers that exist already.
    Handlers that others have put on the root logger stay.
    """
    global _encode, _level
    _level = level = logging.getLevelNamesMapping()[settings.log_level]
    _encode = encoding.to_json if settings.log_format == "json" else _for_people()
    structlog.configure(
        processors=[_finish],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Line,
        # A cached logger would keep the level that it first saw.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _RootHandler)]:
        root.removeHandler(handler)
    root.addHandler(_RootHandler())
    root.setLevel(level)
    logging.captureWarnings(capture=True)


def request(**fields: Any) -> None:
    """The line of one request, as ``get_logger("threadkit.request").info`` would write it.

    There is one for each request, so it goes without the logger that structlog would make.
    """
    if _level <= logging.INFO:
        _write(_line("threadkit.request", "info", "request", fields))


def _for_people() -> Callable[[encoding.Record], bytes]:
    colour = os.isatty(_STDOUT) and not os.environ.get("NO_COLOR")
    return lambda record: encoding.to_console(record, colour=colour)


def _write(line: bytes) -> None:
    """One write a line; the rest of a partial one follows, a broken stdout is ignored."""
    try:
        written = os.write(_STDOUT, line)
        while written < len(line):
            line = line[written:]
            written = os.write(_STDOUT, line)
    except OSError:
        # Nobody reads any more (EPIPE), or the disk is full: there is nowhere to say so.
        return


class _Line:
    """What structlog calls with the finished line. Its methods are named by level."""

    def __init__(self, name: str = "app", *_: Any) -> None:
        self.name = name

    def msg(self, line: bytes) -> None:
        _write(line)

    log = debug = info = warn = warning = error = critical = fatal = exception = failure = msg


class _RootHandler(logging.Handler):
    """The standard library's records, in the same form and on the same stream."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the handler's lock: ``emit`` shares nothing, and a write is one call."""
        passed: Any = self.filter(record)
        if not passed:
            return False
        # From 3.12 on a filter may answer with a record of its own.
        self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, whatever the record holds."""
        try:
            event = record.getMessage()
        except Exception as error:
            event = f"{record.msg!r} does not fit its arguments: {error}"
        extra = {k: v for k, v in record.__dict__.items() if k not in _PLAIN_RECORD}
        if record.exc_info and record.exc_info[0] is not None:
            extra["exc_info"] = record.exc_info
        elif record.stack_info:
            extra["exception"] = record.stack_info
        _write(_line(record.name, record.levelname.lower(), event, extra))


def _finish(logger: Any, method: str, event: MutableMapping[str, Any]) -> tuple[Any, ...]:
    """The last processor of structlog: from its dictionary to the bytes of a line."""
    text = event.pop("event", "")
    return (_line(getattr(logger, "name", "app"), _NAMES.get(method, method), text, event),), {}


def _line(logger: str, level: str, event: object, fields: Mapping[str, Any]) -> bytes:
    try:
        return _encode(_record(logger, level, event, fields))
    except Exception as error:
        # Not reached by any value that we know of. A line that says so beats no line, and
        # an exception here would turn an answered request into a failed one.
        return encoding.to_json(
            {
                "timestamp": _now(),
                "level": "error",
                "event": "a log record could not be encoded",
                "logger": "threadkit.logs",
                "pid": os.getpid(),
                "error": encoding.safe_repr(error),
                "of": encoding.safe_repr(event),
            }
        )


def _record(logger: str, level: str, event: object, fields: Mapping[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "timestamp": _now(),
        "level": level,
        "event": event if isinstance(event, str) else encoding.safe_repr(event),
        "logger": logger,
    }
    if (identifier := request_id.get()) is not None:
        record["request_id"] = identifier
    record["pid"] = os.getpid()
    for source in (get_contextvars(), log_context.get(), fields):
        for key, value in source.items():
            if key == "exc_info":
                if value and (text := _traceback(value)):
                    record["exception"] = text
            else:
                # A field must not replace what the record says about itself.
                record[f"{key}_" if key in _RESERVED else key] = value
    return record


def _traceback(value: Any) -> str:
    error = value if isinstance(value, BaseException) else None
    if error is None:
        error = value[1] if isinstance(value, tuple) else sys.exc_info()[1]
    return "".join(traceback.format_exception(error)).rstrip("\n") if error else ""


_second: tuple[int, str] = (0, "")


def _now() -> str:
    global _second
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    known, text = _second
    if known != seconds:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        _second = seconds, text  # one pair, so that threads see both or neither
    return f"{text}.{microseconds:06d}Z"
