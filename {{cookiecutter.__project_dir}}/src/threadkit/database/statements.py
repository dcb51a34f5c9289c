"""The statements that run now, for consoles, and their place in each request's timeline.

Go's ``database/sql`` keeps no such list; here SQLAlchemy's own events do, so that it holds for
every engine and every way to execute. Parameters are never kept.
"""

from __future__ import annotations

import threading
from time import monotonic
from types import TracebackType
from typing import Any

from sqlalchemy import Engine, event

from threadkit.concurrency.timeline import Span, shown
from threadkit.context import request_id


class _Running(Span):
    """One statement under way: in the list from ``__enter__`` to ``__exit__``."""

    __slots__ = ("_all", "pool", "request_id", "thread_id")

    def __init__(self, statement: str, pool: str, everything: set[_Running]) -> None:
        super().__init__("query", statement)
        self.pool = pool
        self.request_id = request_id.get()
        self.thread_id = threading.get_ident()
        self._all = everything

    def __enter__(self) -> _Running:
        super().__enter__()
        self._all.add(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._all.discard(self)
        super().__exit__(exc_type, exc, traceback)


class Statements:
    """Watches engines. Thread-safe: every operation on the set is one atomic step."""

    def __init__(self) -> None:
        self._running: set[_Running] = set()

    def watch(self, engine: Engine, pool: str) -> None:
        """From now on list what ``engine`` executes, as statements of ``pool``.

        By the events of the dialect, in which the statement itself runs. Those of the engine,
        before and after, come with a dozen others and cost a quarter of a one-row read.
        """
        dialect = engine.dialect

        def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
            with self._entry(statement, pool):
                dialect.do_execute(cursor, statement, parameters, context)
            return True

        def execute_many(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
            with self._entry(statement, pool):
                dialect.do_executemany(cursor, statement, parameters, context)
            return True

        def execute_bare(cursor: Any, statement: str, context: Any) -> bool:
            with self._entry(statement, pool):
                dialect.do_execute_no_params(cursor, statement, context)
            return True

        event.listen(engine, "do_execute", execute)
        event.listen(engine, "do_executemany", execute_many)
        event.listen(engine, "do_execute_no_params", execute_bare)

    def _entry(self, statement: str, pool: str) -> _Running:
        return _Running(statement, pool, self._running)

    def forget(self) -> None:
        """In a forked child: what ran in the parent does not run here."""
        self._running = set()

    def documents(self) -> list[dict[str, Any]]:
        """What runs, the longest first: statement without literals, ``seconds``, request id."""
        now = monotonic()
        running = sorted(self._running.copy(), key=lambda span: span.started)
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
