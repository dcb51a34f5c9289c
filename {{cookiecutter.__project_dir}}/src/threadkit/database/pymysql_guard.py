"""PyMySQL's connection, whose every wait for the server ends with the scope around it.

MySQL's protocol has no cancel: a statement is stopped by ``KILL QUERY`` on a connection of its
own, which names the victim by its number and hits whatever that runs when it arrives. So the
thread that waits for the statement sends the kill itself, keeps the victim until the server
has acknowledged it, and reads the statement's own answer after that. Where this is not
"interrupted" (error 1317), the kill came when the statement had just ended and may still be
pending: an empty statement absorbs it before anything else is sent. A kill whose
acknowledgement does not come costs the connection.

That happens to ``SLEEP()`` on MariaDB, all of whose sleepers share one lock. A KILL tries for two
seconds to take it from them, and its victim ends no sooner either: of 882 kills among 16 sleepers
109 took 2.0 to 2.5 s, longer than ``GRACE``. A second kill would stand in the same line.

Rests on these names of PyMySQL, which a contract test pins: ``Connection._read_bytes`` and
``_write_bytes`` as the only places where a connection waits, ``_execute_command``,
``_read_packet``, ``_force_close``, and ``_sock`` with ``_read_timeout``, ``_write_timeout`` and
``_current_timeout``; ``_create_ssl_ctx``, which is only overridden to be called less often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, ClassVar, Final

import pymysql.connections
from pymysql.constants import COMMAND, CR, ER, SERVER_STATUS

from threadkit.concurrency import Cancelled, current_scope, remaining
from threadkit.database.faults import OutcomeUnknown, silent
from threadkit.database.guard import GRACE, TICK, Tally

_CHUNK: Final = 65_536
"""Bytes that are read at once, and the least that are worth a time limit when written."""

_LOST: Final = (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST)


# Its stubs know nothing of the names that this rests on.
_Connection: Any = pymysql.connections.Connection


class GuardedConnection(_Connection):  # type: ignore[misc]
    """A connection that keeps the rules of ``guard``. Used by one thread at a time.

    ``until``: when all that it does must be over, whatever the scope says; for a short errand.
    """

    dropped = False
    """The guard has closed it, because nobody could know its state any more."""

    # PyMySQL's own.
    _read_timeout: float | None
    _write_timeout: float | None
    _current_timeout: float | None

    # TLS contexts by what they are made of. Single operations on a dict are atomic.
    _contexts: ClassVar[dict[Any, Any]] = {}

    def __init__(
        self, *arguments: Any, tally: Tally | None, until: float | None = None, **options: Any
    ) -> None:
        self._address = arguments, options
        self._tally = tally
        # What was received and not read yet, and how far it was read.
        self._received, self._at = b"", 0
        # The longest silence in a query without a scope.
        self._silence: float | None = None
        self._connected = False
        # A time limit instead of the scope's: of a clean-up, a commit, an answer after a kill.
        self._until = until
        self._finishing = until is not None
        # Why a statement was killed, until its answer or an empty statement has taken the kill.
        self._killed_for: Cancelled | None = None
        super().__init__(*arguments, **options)
        self._connected = True

    def connect(self, sock: Any = None) -> None:
        """Connect and log in, no longer than the current scope lasts."""
        # The socket itself waits for a tick, so its time limit is not changed with each packet.
        self._silence = self._read_timeout
        self._read_timeout = self._write_timeout = TICK
        super().connect(sock)

    def fileno(self) -> int:
        """Of the socket."""
        return int(self._sock.fileno())

    def drop(self) -> None:
        """Close it without a word to the server, who may not answer."""
        if not self.dropped:
            self.dropped = True
            self._force_close()
            self._count("dropped")
            if self._tally is not None:
                self._tally.silence()

    def commit(self) -> None:
        """Commit, unless the scope is over; ``OutcomeUnknown`` where nobody can tell."""
        if not self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS:
            super().commit()
            return
        if (scope := current_scope()) is not None:
            scope.checkpoint()
        self._absorb()
        self._finishing = True
        try:
            super().commit()
        except pymysql.err.OperationalError as error:
            if error.args[0] not in _LOST:
                raise
            self.drop()
            raise OutcomeUnknown from error
        finally:
            self._finishing, self._until = False, None

    def rollback(self) -> None:
        """Roll back within ``GRACE``, or drop the connection, which comes to the same."""
        single = self.server_status & SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
        if self.dropped or (
            single and not self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS
        ):
            return
        self._absorb()
        self._finishing, self._until = True, monotonic() + GRACE
        try:
            super().rollback()
        except pymysql.err.OperationalError:
            if not self.dropped:
                raise
        finally:
            self._finishing, self._until = False, None

    # What PyMySQL calls

    def _execute_command(self, command: int, sql: Any) -> None:
        if not self._finishing:
            if (scope := current_scope()) is not None:
                scope.checkpoint()
            self._absorb()
        super()._execute_command(command, sql)

    def _read_packet(self, *arguments: Any) -> Any:
        try:
            return super()._read_packet(*arguments)
        except pymysql.err.OperationalError as error:
            if self._killed_for is None or error.args[0] != ER.QUERY_INTERRUPTED:
                raise
            self._count("cancelled")
            reason, self._killed_for, self._until = self._killed_for, None, None
            raise reason from None

    def _read_bytes(self, num_bytes: int) -> bytes:
        if len(self._received) - self._at < num_bytes:
            parts = [self._received[self._at :]]
            missing = num_bytes - len(parts[0])
            while missing > 0:
                parts.append(self._receive())
                missing -= len(parts[-1])
            self._received, self._at = b"".join(parts), 0
        start, self._at = self._at, self._at + num_bytes
        return self._received[start : self._at]

    def _write_bytes(self, data: bytes) -> None:
        # What is small goes into the kernel's buffer, which is empty between two statements.
        if len(data) >= _CHUNK:
            self._write_timeout = self._patience_to_write()
        try:
            super()._write_bytes(data)
        finally:
            self._write_timeout = TICK

    def _create_ssl_ctx(self, sslp: Any) -> Any:
        # To make one reads all the certificates of the system, which takes longer than all the
        # rest of a connect. One serves any number of connections, until the process ends.
        key = tuple(sorted(sslp.items())) if isinstance(sslp, dict) else None
        context = self._contexts.get(key) if key is not None else None
        if context is None:
            context = super()._create_ssl_ctx(sslp)
            if key is not None:
                self._contexts[key] = context
        return context

    # Waiting

    def _receive(self) -> bytes:
        """The next bytes from the server, however many."""
        began = monotonic()
        while True:
            tick = self._tick(began)
            if tick != self._current_timeout:
                self._sock.settimeout(tick)
                self._current_timeout = tick
            try:
                data: bytes = self._sock.recv(_CHUNK)
            except TimeoutError:
                continue
            except OSError as error:
                raise self._lost(str(error)) from error
            if not data:
                raise self._lost("it closed the connection")
            return data

    def _tick(self, began: float) -> float:
        """How long to wait before looking again; kills the statement when its scope is over."""
        now = monotonic()
        if self._until is not None:
            if now >= self._until:
                raise self._late()
            return min(TICK, self._until - now)
        scope = current_scope()
        if scope is None:
            if self._silence is not None and now - began > self._silence:
                raise self._lost(f"no answer for {self._silence} s")
            return TICK
        left = scope.remaining()
        if left != 0.0:
            return TICK if left is None else min(TICK, left)
        if not self._connected:
            raise silent(scope.error())
        self._until = now + GRACE
        if not self._finishing:
            self._stop(scope.error(), self._until)
        return TICK

    def _stop(self, reason: Cancelled, until: float) -> None:
        """Have the server end the statement; its answer then comes in order."""
        self._killed_for = reason
        arguments, options = self._address
        try:
            errand = GuardedConnection(
                *arguments, tally=None, until=until, **{**options, "connect_timeout": GRACE}
            )
            try:
                errand.query(f"KILL QUERY {self.thread_id()}")
            finally:
                errand._force_close()
        except (pymysql.err.MySQLError, OSError) as error:
            # It may still be on its way: it must not find another statement here.
            self.drop()
            raise silent(reason) from error

    def _absorb(self) -> None:
        """Take a kill that came too late for its statement, before the next one is sent."""
        if self._killed_for is None:
            return
        self._killed_for = None
        self._until = monotonic() + GRACE
        try:
            super()._execute_command(COMMAND.COM_QUERY, "DO 0")
            super()._read_packet()
        except pymysql.err.OperationalError as error:
            if error.args[0] != ER.QUERY_INTERRUPTED:
                raise
        finally:
            self._until = None

    def _count(self, name: str) -> None:
        if self._tally is not None:
            self._tally.count(name)

    def _late(self) -> Exception:
        """The error of a wait that took longer than its grace; the connection is dropped."""
        reason = self._killed_for
        self.drop()
        return self._lost("no answer in time") if reason is None else silent(reason)

    def _lost(self, why: str) -> Exception:
        self._force_close()
        return pymysql.err.OperationalError(
            CR.CR_SERVER_LOST, f"Lost connection to MySQL server during query ({why})"
        )

    def _patience_to_write(self) -> float:
        scope = current_scope()
        left = self._silence if scope is None else scope.remaining()
        if self._until is not None:
            left = self._until - monotonic()
        return max(TICK, left if left is not None else self._silence or 60.0)


def connect(
    arguments: Sequence[Any], options: Mapping[str, Any], tally: Tally
) -> GuardedConnection:
    """Open a connection, no longer than the current scope lasts."""
    scope, left = current_scope(), remaining()
    bounded = left is not None and left < options["connect_timeout"]
    if bounded:
        options = {**options, "connect_timeout": max(0.001, left or 0.0)}
    try:
        return GuardedConnection(*arguments, tally=tally, **options)
    except pymysql.err.OperationalError as error:
        # PyMySQL takes any TimeoutError for one of the network's.
        original = getattr(error, "original_exception", None)
        if isinstance(original, Cancelled):
            raise original from None
        if isinstance(original, TimeoutError) and bounded and scope is not None:
            raise silent(scope.error()) from error
        raise
