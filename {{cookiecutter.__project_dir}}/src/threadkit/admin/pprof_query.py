"""What a request to ``/debug/pprof/NAME`` asks for, read as Go reads it.

Go ignores what it cannot read in ``profile``, ``trace``, ``debug`` and ``gc``, and refuses
it where a number was needed; clients rely on both.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Final

from werkzeug.datastructures import MultiDict

from threadkit.profiling.profile import DEEPEST
from threadkit.profiling.window import FASTEST, LONGEST

FORMATS: Final = ("proto", "top", "html", "collapsed", "speedscope")
EVERY: Final = "all"


class RefusedError(Exception):
    """An answer of its own: a status and one line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Query:
    """What is asked. ``seconds`` is None where the client named none (that counts)."""

    seconds: float | None = None
    hz: int = 100
    depth: int | None = None
    """None is what the profile itself thinks right."""
    debug: int = 0
    gc: bool = False
    format: str = "proto"
    pid: int | str | None = None

    def target(self, name: str) -> str:
        """The same question for one worker, whose answer can be merged."""
        seconds = "" if self.seconds is None else f"seconds={self.seconds:g}&"
        depth = "" if self.depth is None else f"depth={self.depth}&"
        rest = f"hz={self.hz}&gc={int(self.gc)}&debug={self.debug}"
        return f"/debug/pprof/{name}?{seconds}{depth}{rest}"


def read(name: str, form: MultiDict[str, str]) -> Query:
    """The query of a profile; ``RefusedError`` with Go's words where Go refuses."""
    query = Query(
        hz=_bounded(form, "hz", FASTEST) or 100,
        depth=_bounded(form, "depth", DEEPEST),
        debug=_atoi(form.get("debug", "")),
        gc=_atoi(form.get("gc", "")) > 0,
        format=form.get("format", "") or "proto",
        pid=_pid(form.get("pid", "")),
    )
    if query.format not in FORMATS:
        raise RefusedError(400, f"unknown format {query.format!r}: ask for {', '.join(FORMATS)}")
    query = replace(query, seconds=_seconds(name, form.get("seconds", ""), query.debug))
    if query.debug and query.format != "proto":
        raise RefusedError(400, "format and debug params are incompatible")
    return query


def _seconds(name: str, text: str, debug: int) -> float | None:
    seconds: float | None
    if name == "profile":
        number = _integer(text)
        seconds = number if number is not None and number > 0 else 30
    elif name == "trace":
        seconds = _float(text)
    elif not text:
        return None
    else:
        seconds = _integer(text)
        if seconds is None or seconds <= 0:
            raise RefusedError(400, 'invalid value for "seconds" - must be a positive integer')
        if debug:
            raise RefusedError(400, "seconds and debug params are incompatible")
    if seconds > LONGEST:
        raise RefusedError(400, f"profile duration exceeds the limit of {LONGEST} seconds")
    return seconds


def _integer(text: str) -> int | None:
    """Go's ParseInt in base 10: a sign and digits, nothing else."""
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text) is None:
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


def _float(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 1.0
    return seconds if seconds > 0 and not math.isnan(seconds) else 1.0


def _atoi(text: str) -> int:
    return _integer(text) or 0


def _bounded(form: MultiDict[str, str], key: str, most: int) -> int | None:
    number = _integer(form.get(key, ""))
    if number is not None and number > most:
        raise RefusedError(400, f"{key}={number} exceeds the limit of {most}")
    return number if number is not None and number > 0 else None


def _pid(text: str) -> int | str | None:
    if text in ("", EVERY):
        return text or None
    number = _integer(text)
    if number is None or number <= 0:
        raise RefusedError(400, f'invalid value for "pid": {text!r} is no process and not "all"')
    return number
