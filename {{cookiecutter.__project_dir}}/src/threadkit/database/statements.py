"""The statements that run now, for consoles, and their place in each request's timeline.

Go's ``database/sql`` keeps no such list; here each engine's dialect does, so that it holds for
every way to execute. Parameters are never kept.

Rests on a SQLAlchemy that calls the methods named in ``WATCHED`` on ``engine.dialect``, with the
statement as the second argument by position; a contract test pins it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Final

from sqlalchemy import Engine

from threadkit.concurrency.timeline import Span, shown
from threadkit.context import request_id

WATCHED: Final = ("do_execute", "do_executemany", "do_execute_no_params")
"""The methods of a dialect in which a statement runs."""


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

        In place of the dialect's own methods, in which the statement itself runs. SQLAlchemy's
        events come with a dozen lookups and calls: those of the engine cost a quarter of a
        one-row read, those of the dialect a tenth, and this one a fiftieth.
        """
        dialect: Any = engine.dialect
        for name in WATCHED:
            setattr(dialect, name, self._watched(getattr(dialect, name), pool))

    def _watched(self, execute: Callable[..., None], pool: str) -> Callable[..., None]:
        def watched(cursor: Any, statement: str, *rest: Any) -> None:
            with _Running(statement, pool, self._running):
                execute(cursor, statement, *rest)

        return watched

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
