"""A connection that is lent: what SQLAlchemy calls a proxied connection, at a third of its price.

SQLAlchemy's own keeps a finalizer, a weak reference, a counter and a place for listeners for each
loan, which costs a tenth of a one-row read. This one knows its pool and its record, and gives
the record back when it is closed, or when the last reference to it goes.

Rests on these names of SQLAlchemy's, which a contract test pins: ``PoolProxiedConnection`` and
what ``Connection`` asks of it, ``_close_special`` and ``_connection_record`` among it;
``get_connection``, ``checkin``, ``_checkin_failed`` and ``finalize_callback`` of the pool's
record; ``Pool._reset_on_return``, ``_do_return_conn`` and ``_close_connection``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import Pool, PoolProxiedConnection
from sqlalchemy.pool.base import reset_commit, reset_none

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor


class Lease(PoolProxiedConnection):
    """One loan. Closed once; the thread that has it uses it."""

    __slots__ = ("_connection_record", "_pool", "dbapi_connection")

    def __init__(self, pool: Pool, record: Any) -> None:
        self._pool = pool
        self._connection_record: Any = None  # for ``__del__``, should the next line raise
        try:
            self.dbapi_connection: DBAPIConnection | None = record.get_connection()
        except BaseException as error:
            record._checkin_failed(error, _fairy_was_created=False)
            raise
        self._connection_record = record

    def cursor(self, *args: Any, **options: Any) -> DBAPICursor:
        """A cursor of the driver's."""
        assert self.dbapi_connection is not None
        return self.dbapi_connection.cursor(*args, **options)

    def close(self) -> None:
        """Give it back, rolled back where the pool wants that."""
        self._close_special()

    def _close_special(self, transaction_reset: bool = False) -> None:
        record, self._connection_record = self._connection_record, None
        connection, self.dbapi_connection = self.dbapi_connection, None
        if record is None:
            if connection is not None:  # it was detached: nobody waits for it
                self._pool._close_connection(connection)
            return
        resets = self._pool._reset_on_return is not reset_none and not transaction_reset
        if resets and connection is not None:
            try:
                self._reset(connection)
            except BaseException as error:
                self._pool.logger.error("a connection cannot be reset", exc_info=True)
                record._checkin_failed(error, _fairy_was_created=False)
                if not isinstance(error, Exception):
                    raise
                return
        if record.finalize_callback:
            record.checkin(_fairy_was_created=False)
        else:  # nobody listens, see ``FairPool.connect``
            self._pool._do_return_conn(record)

    def _reset(self, connection: DBAPIConnection) -> None:
        dialect: Any = self._pool._dialect
        if self._pool._reset_on_return is reset_commit:
            dialect.do_commit(connection)
        else:
            dialect.do_rollback(connection)

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """It is broken: close the connection, and give back its place alone.

        ``soft``: when it comes back, rather than now.
        """
        if self._connection_record is None:
            return
        try:
            self._connection_record.invalidate(e=e, soft=soft)
        finally:
            if not soft:
                self.dbapi_connection = None
                self._close_special()

    def detach(self) -> None:
        """Keep the connection for good; the pool makes another one."""
        record, self._connection_record = self._connection_record, None
        if record is not None:
            record.dbapi_connection = None
            record.checkin(_fairy_was_created=False)

    @property
    def is_valid(self) -> bool:
        """Whether there is a connection, that is, it has been neither closed nor invalidated."""
        return self.dbapi_connection is not None

    @property
    def is_detached(self) -> bool:
        """Whether the pool has no part in it any more."""
        return self._connection_record is None

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]
        """The driver's own connection."""
        record = self._connection_record
        return self.dbapi_connection if record is None else record.driver_connection

    @property
    def info(self) -> Any:
        """A dictionary for owners, which lasts as long as the connection."""
        return {} if self._connection_record is None else self._connection_record.info

    @property
    def record_info(self) -> Any:
        """A dictionary for owners, which outlasts the connection."""
        return None if self._connection_record is None else self._connection_record.record_info

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dbapi_connection, name)

    def __del__(self) -> None:
        if self._connection_record is not None:
            self._close_special()
