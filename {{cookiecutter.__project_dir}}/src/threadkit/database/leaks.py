"""Sessions that outlive their request: reported with the stack that opened them, and closed.

    gen = rows()          # a generator that holds a ``with read() as db`` open,
    next(gen)             # and that nobody takes to its end

Such a session holds a connection for as long as the garbage collector pleases, and a few of them
are an exhausted pool. Only requests are watched: a script's session ends with the script.

While a session is open, a few pairs of code and position say where it came from; they become
text when there is something to report.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import CodeType
from typing import NamedTuple

from sqlalchemy.orm import Session

from threadkit.concurrency.timeline import Timeline
from threadkit.concurrency.timeline import current as current_timeline

DEPTH = 12
"""Frames of a stack that are kept, the innermost first."""

_logger = logging.getLogger("threadkit.database")


class _Opening(NamedTuple):
    request: Timeline
    thread: int
    stack: list[tuple[CodeType, int]]


class Leaks:
    """The open sessions of requests. Thread-safe: single operations on a dict are atomic."""

    def __init__(self) -> None:
        self._open: dict[Session, _Opening] = {}
        self.found = 0

    def opened(self, session: Session) -> None:
        """Called in the block's ``__enter__``."""
        request = current_timeline.get()
        if request is None:
            return
        stack: list[tuple[CodeType, int]] = []
        frame = sys._getframe(2)
        for _ in range(DEPTH):
            stack.append((frame.f_code, frame.f_lasti))
            if frame.f_back is None:
                break
            frame = frame.f_back
        self._open[session] = _Opening(request, threading.get_ident(), stack)

    def closed(self, session: Session) -> None:
        """Called in the block's ``__exit__``."""
        self._open.pop(session, None)

    def forget(self) -> None:
        """In a forked child: what is open belongs to the parent."""
        self._open = {}

    def request_ended(self, request: Timeline) -> None:
        """Report what ``request`` has left open, and close what this thread opened.

        A session of another thread is still in use there: its next query raises ``Cancelled``,
        since the request's scope is over, and its block gives the connection back.
        """
        if not self._open:
            return
        for session, opening in list(self._open.items()):
            if opening.request is not request:
                continue
            self._open.pop(session, None)
            self.found += 1
            mine = opening.thread == threading.get_ident()
            _logger.warning(
                "a database session outlived its request%s. Use it in a `with` block that ends "
                "before the answer does. It was opened here, innermost last:\n%s",
                " and was closed" if mine else ", in another thread",
                _shown(opening.stack),
            )
            if mine:
                session.close()


def _shown(stack: list[tuple[CodeType, int]]) -> str:
    return "\n".join(
        f'  File "{code.co_filename}", line {_line(code, position)}, in {code.co_qualname}'
        for code, position in reversed(stack)
    )


def _line(code: CodeType, position: int) -> int:
    for start, end, line in code.co_lines():
        if start <= position < end and line is not None:
            return line
    return code.co_firstlineno
