"""The statements that run now, for consoles, and their place in each request's timeline.

Go's ``database/sql`` keeps no such list; here SQLAlchemy's own events do, so that it holds for
every engine and every way to execute. Parameters are never kept.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from threadkit.concurrency.timeline import Span, shown
from threadkit.context import request_id


class _Running(Span):
    """One statement under way."""

    __slots__ = ("pool", "request_id", "thread_id")

    def __init__(self, statement: str, pool: str) -> None:
        super().__init__("query", statement)
        self.pool = pool
        self.request_id = request_id.get()
        self.thread_id = threading.get_ident()


class Statements:
    """Watches engines. Thread-safe: every operation on the dict is one atomic step."""

    def __init__(self) -> None:
        self._running: dict[object, _Running] = {}

    def watch(self, engine: Engine, pool: str) -> None:
        """From now on list what ``engine`` executes, as statements of ``pool``."""

        def begin(
            connection: object, cursor: object, statement: str, parameters: object,
            context: object, executemany: bool,
        ) -> None:  # fmt: skip
            del connection, cursor, parameters, executemany
            running = self._running[context] = _Running(statement, pool)
            running.__enter__()

        def end(connection: object, cursor: object, statement: str, parameters: object,
            context: object, executemany: bool,
        ) -> None:  # fmt: skip
            del connection, cursor, statement, parameters, executemany
            self._end(context)

        def failed(error: ExceptionContext) -> None:
            self._end(error.execution_context)

        event.listen(engine, "before_cursor_execute", begin)
        event.listen(engine, "after_cursor_execute", end)
        event.listen(engine, "handle_error", failed)

    def forget(self) -> None:
        """In a forked child: what ran in the parent does not run here."""
        self._running = {}

    def documents(self) -> list[dict[str, Any]]:
        """What runs, the longest first: statement without literals, ``seconds``, request id."""
        now = monotonic()
        running = sorted(self._running.values(), key=lambda span: span.started)
        return [
            {
                "statement": shown(span.name),
                "seconds": round(now - span.started, 6),
                "pool": span.pool,
                "request_id": span.request_id,
                "thread_id": span.thread_id,
            }
            for span in running
        ]

    def _end(self, context: object) -> None:
        running = self._running.pop(context, None)
        if running is not None:
            running.__exit__(None, None, None)
