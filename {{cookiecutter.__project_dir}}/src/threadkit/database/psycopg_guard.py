"""psycopg's connection, whose every wait ends with the scope around it.

The thread that waits for the server is the one that asks it to stop: it looks at its scope
every ``TICK``, the last time exactly at the deadline, and then sends a cancel request for its
own connection and waits until that has been delivered. A cancel from another thread can come
when the query has just ended and the connection serves somebody else; here there is nobody
else while the request is on its way. The price is a tick: a query ends at most ``TICK`` after
its scope was cancelled.

Rests on these names of psycopg, which a contract test pins: ``Connection.wait`` as the one
place where a connection waits, with its ``timeout`` and ``errors._WaitTimeout``, after which
the same generator can be waited for again; ``Connection._connect_gen``, through which it
connects.
"""

from __future__ import annotations

import select
from collections.abc import Generator
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.errors import QueryCanceled, _WaitTimeout
from psycopg.pq import ConnStatus, TransactionStatus

from threadkit.concurrency import Cancelled, CancelScope, current_scope
from threadkit.database.faults import OutcomeUnknown, silent
from threadkit.database.guard import GRACE, PROMPT, TICK, Tally

if TYPE_CHECKING:
    from psycopg.abc import PQGen

RV = TypeVar("RV")

_AGAIN = 0.1
"""Seconds after which a cancel is repeated: the first may have fallen between two messages of
one query (BEGIN, PREPARE, EXECUTE), where the server ignores it."""


class GuardedConnection(psycopg.Connection[Any]):
    """A connection that keeps the rules of ``guard``. Used by one thread at a time."""

    tally: Tally | None = None
    dropped = False
    """The guard has closed it, because nobody could know its state any more."""

    _poll: select.poll | None = None

    # Set while a rollback or a commit runs: how long it may take, whatever the scope says.
    _until: float | None = None
    _commits = False

    def wait(self, gen: PQGen[RV], interval: float = TICK, timeout: float | None = None) -> RV:
        """Wait for the server, no longer than the current scope lasts."""
        scope = current_scope()
        if self._until is not None or self._commits:
            return self._finish(gen, scope)
        if scope is None or timeout is not None:
            return super().wait(gen, interval, timeout)
        while (left := scope.remaining()) != 0.0:
            try:
                return super().wait(gen, TICK, TICK if left is None else min(left, TICK))
            except _WaitTimeout:
                continue
        if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            raise scope.error()  # nothing was sent
        return self._stop(gen, scope.error())

    def _stop(self, gen: PQGen[RV], error: Cancelled) -> RV:
        """Have the server stop the query; what it had finished by then is its result."""
        asked = monotonic()
        until = asked + GRACE
        while (left := until - monotonic()) > 0:
            try:
                self.cancel_safe(timeout=left)
            except psycopg.Error as failure:
                # The request may still be on its way: it must not find another query here.
                self.drop()
                raise silent(error) from failure
            try:
                result = super().wait(gen, TICK, max(0.0, min(_AGAIN, until - monotonic())))
            except _WaitTimeout:
                continue
            except QueryCanceled:
                if self.tally is not None:
                    self.tally.count("cancelled")
                self._note(asked)
                raise error from None
            self._note(asked)
            return result
        self.drop()
        raise silent(error)

    def _note(self, asked: float) -> None:
        """The server has answered to a request to stop that was made when ``asked`` says."""
        if monotonic() - asked > PROMPT and self.tally is not None:
            self.tally.silence()

    def commit(self) -> None:
        """Commit, unless the scope is over; ``OutcomeUnknown`` where nobody can tell."""
        if self.pgconn.transaction_status != TransactionStatus.INTRANS:
            super().commit()
            return
        scope = current_scope()
        if scope is not None:
            scope.checkpoint()
        self._commits = True
        try:
            super().commit()
        except psycopg.OperationalError as error:
            if self.pgconn.status == ConnStatus.OK and not isinstance(error, _WaitTimeout):
                raise
            self.drop()
            raise OutcomeUnknown from error
        finally:
            self._commits = False

    def rollback(self) -> None:
        """Roll back within ``GRACE``, or drop the connection, which comes to the same."""
        if self.dropped:
            return
        self._until = monotonic() + GRACE
        try:
            super().rollback()
        except _WaitTimeout:
            self.drop()
        finally:
            self._until = None

    def _finish(self, gen: PQGen[RV], scope: CancelScope | None) -> RV:
        """Wait for a rollback or a commit until its time is over, whatever the scope says."""
        until = self._until
        while True:
            if until is None and scope is not None and scope.over:
                until = monotonic() + GRACE
            try:
                return super().wait(gen, TICK, TICK)
            except _WaitTimeout:
                if until is not None and monotonic() >= until:
                    raise

    def is_whole(self, *, look: bool) -> bool:
        """Whether this idle connection can be used; ``look`` at its socket, too. No round trip.

        It has nothing to read: what is there is the server's farewell, or the end.
        """
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            return False  # closed, or left in a transaction
        if not look:
            return True
        if (poll := self._poll) is None:
            poll = self._poll = select.poll()
            poll.register(self.pgconn.socket, select.POLLIN)
        return not poll.poll(0)

    def drop(self) -> None:
        """Close it without asking the server, who may not answer."""
        self.dropped = True
        self.close()
        if self.tally is not None:
            self.tally.count("dropped")
            self.tally.silence()

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Generator[Any, Any, Any]:
        """Connect, no longer than the current scope lasts; looked at ten times a second."""
        gen = super()._connect_gen(conninfo)
        scope = current_scope()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if scope is not None and scope.over:
                    raise silent(scope.error())
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value
        finally:
            gen.close()
