"""The service's database: two bounded pools, and a connection apart that asks after its health.

``write`` begins transactions. ``read`` commits each statement by itself, which saves the
round trips of BEGIN and COMMIT. The probe has a connection of its own: readiness must say
what the database does, not how busy the pools are.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from threadkit.concurrency import shield
from threadkit.database.dialect import Fault, dialect_for
from threadkit.database.faults import (
    DatabaseAway,
    DatabaseFull,
    sentence,
    translation,
    without_names,
)
from threadkit.database.guard import GRACE, Tally, guard
from threadkit.database.leaks import Leaks
from threadkit.database.outage import Outage
from threadkit.database.pool import FairPool
from threadkit.database.read_session import ReadSession
from threadkit.database.schema import Schema
from threadkit.database.statements import Statements
from threadkit.runtime import RequestRecord
from threadkit.settings import Settings

# Where each statement commits by itself, there is nothing to roll back.
_AUTOCOMMIT: dict[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    "pool_reset_on_return": None,
    "skip_autocommit_rollback": True,
}

PROBE_FRESH = 1.0
"""Seconds for which an answer of the probe stands in for the next."""
PROBE_TIME = 1.0
"""Seconds that a probe takes at most; with the guard's grace, and then it says that."""
PROBE_PATIENCE = PROBE_TIME + GRACE
"""Seconds that a probe waits for another one in progress."""


class Database:
    """Engines and session factories of one process. A ``Resource``; thread-safe once started."""

    def __init__(self, settings: Settings, *, service: str) -> None:
        self.settings = settings
        self.dialect = dialect_for(settings.database_url)
        self.schema = Schema()
        self.statements = Statements()
        self.tally = Tally()
        self.leaks = Leaks()
        self.outage = Outage()
        self._service = service
        # Guards _probed and _fault: one probe at a time, however many ask.
        self._lock = threading.Lock()
        self._probed = float("-inf")
        self._fault: str | None = None

    def start(self) -> None:
        """Build the engines; nothing connects yet."""
        size = self.settings.database_pool_size
        self.write = self._engine(pool_size=size)
        self.read = self._engine(pool_size=size, autocommit=True)
        self._probe_engine = self._engine(pool_size=1, autocommit=True)
        self.statements.watch(self.write, "write")
        self.statements.watch(self.read, "read")
        self.transactions = sessionmaker(self.write, expire_on_commit=False)

    def open_read(self) -> Session:
        """A session for ``read()``; whoever opens it closes it."""
        return ReadSession(self.read, autoflush=False)

    def abandon(self) -> None:
        """In a forked child: drop the parent's connections without closing them for it."""
        self.statements.forget()
        self.leaks.forget()
        for engine in self._engines():
            engine.dispose(close=False)

    def close(self) -> None:
        """Close every idle connection."""
        for engine in self._engines():
            engine.dispose()

    def fault(self) -> str | None:
        """Why the database cannot be used now, for ``/readyz``; None where it can."""
        if not self._lock.acquire(timeout=PROBE_PATIENCE):
            return "the database has not answered for a while"
        try:
            if time.monotonic() - self._probed > PROBE_FRESH:
                self._fault = self._probe()
                if self._fault is None:
                    self.outage.over()
                self._probed = time.monotonic()
            return self._fault
        finally:
            self._lock.release()

    def translate(self, error: BaseException) -> Exception | None:
        """The service's own error for what went wrong, or None; an outage is told to the log."""
        ours = translation(error, self.dialect, self.schema_fault)
        if isinstance(error, DatabaseAway):
            self.outage.met(getattr(error, "reason", str(error)))
        elif isinstance(ours, DatabaseAway | DatabaseFull) and isinstance(error, DBAPIError):
            self.outage.met(sentence(error, self.settings.database_url))
        return ours

    def schema_fault(self) -> str | None:
        """Why the schema does not fit, or None; a database that is away tells nothing."""
        with shield(PROBE_TIME, name="database schema"):
            try:
                with self._probe_engine.connect() as connection:
                    return self.schema.fault(connection)
            except SQLAlchemyError:
                return None
        return None

    def request_ended(self, record: RequestRecord) -> None:
        """Take back the sessions that a request has left open."""
        self.leaks.request_ended(record.timeline)

    def stats(self) -> Mapping[str, Any]:
        """Of both pools who holds and who waits, what went wrong so far, and what runs now."""
        return {**self.totals(), "statements": self.statements.documents()}

    def totals(self) -> dict[str, float]:
        """The numbers among the statistics: of each pool by its name, and of all."""
        pools = {"read": self.read.pool, "write": self.write.pool}
        counts = {
            f"{name}_{key}": value
            for name, pool in pools.items()
            if isinstance(pool, FairPool)
            for key, value in pool.stats().items()
        }
        return {**counts, **self.tally.counts(), "leaked": self.leaks.found}

    def _probe(self) -> str | None:
        # Whoever asks may be out of time itself: the answer is everybody's.
        with shield(PROBE_TIME, name="database probe"):
            return self._ask()
        return f"the database has not answered for {PROBE_TIME:g} s"

    def _ask(self) -> str | None:
        try:
            with self._probe_engine.connect() as connection:
                connection.execute(text("SELECT 1"))
                return self.schema.fault(connection)
        except DBAPIError as error:
            reason = sentence(error, self.settings.database_url)
            self.outage.met(reason)
            reason = without_names(reason)
            if self.dialect.fault(error) is Fault.REFUSED:
                return f"the database does not let us in: {reason}. Check DATABASE_URL."
            return f"the database is away: {reason}"
        except SQLAlchemyError as error:
            return f"the database does not answer: {type(error).__name__}"

    def _engine(self, *, pool_size: int, autocommit: bool = False) -> Engine:
        settings = self.settings
        engine = create_engine(
            settings.database_url,
            poolclass=FairPool,
            pool_size=pool_size,
            pool_timeout=settings.database_pool_timeout,
            alive=self.dialect.alive,
            **self.dialect.engine_options(settings, f"{self._service}:{os.getpid()}"),
            **(_AUTOCOMMIT if autocommit else {}),
        )
        self.dialect.prepare(engine, autocommit=autocommit)
        self.dialect.limit(engine, settings)
        guard(engine, self.dialect, self.tally)
        return engine

    def _engines(self) -> tuple[Engine, Engine, Engine]:
        return self.write, self.read, self._probe_engine
