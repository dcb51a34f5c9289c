"""Sessions: ``read()`` for looking, ``transaction()`` for changing.

    with read() as db:
        item = db.get(Item, item_id)

    with transaction() as db:
        item = db.get_one(Item, item_id)
        item.name = name

Both are short by construction: the connection goes back when the block ends, what was
loaded stays readable afterwards, and nothing loads behind your back once it is closed. Go's
counterparts are ``db.QueryContext`` and ``db.BeginTx``.

A session belongs to the thread that opened it. A task of a ``TaskGroup`` opens its own: two
statements of one session never run at once.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from sqlalchemy.orm import Session

from threadkit import runtime
from threadkit.concurrency import checkpoint
from threadkit.database.engine import Database
from threadkit.database.retry import Transaction


def read() -> AbstractContextManager[Session]:
    """A session that only reads, each statement for itself; ``RuntimeError`` on a change.

    Two statements may see two states of the database: use ``transaction`` where they must
    agree. The session belongs to the thread that opened it.
    """
    return _Read()


def transaction(*, retries: int = 0) -> Transaction:
    """A unit of work: commits where the block ends, rolls back where it raises.

    Keep it short and call nothing slow inside: it holds locks. The session belongs to the
    thread that opened it. ``transaction(retries=3).run(work)`` calls ``work(session)``, again
    after a deadlock or a serialisation failure, see ``Transaction.run``.
    """
    return Transaction(_Transaction, retries)


class _Opened:
    """What both kinds of block share. Classes instead of generators: this is a hot path."""

    __slots__ = ("_database", "_session")

    def __enter__(self) -> Session:
        checkpoint()
        self._database = database = runtime.current().get(Database)
        self._session = session = self._open(database)
        database.leaks.opened(session)
        return session

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        database, session = self._database, self._session
        database.leaks.closed(session)
        try:
            self._end(session, error)
        except Exception as failure:
            ours = database.translate(failure)
            if ours is None:
                raise
            raise ours from failure
        if error is not None:
            ours = database.translate(error)
            if ours is not None:
                raise ours from error

    def _open(self, database: Database) -> Session:
        raise NotImplementedError

    def _end(self, session: Session, error: BaseException | None) -> None:
        session.close()


class _Read(_Opened):
    __slots__ = ()

    def _open(self, database: Database) -> Session:
        return database.open_read()


class _Transaction(_Opened):
    __slots__ = ()

    def _open(self, database: Database) -> Session:
        return database.transactions()

    def _end(self, session: Session, error: BaseException | None) -> None:
        try:
            if error is None:
                session.commit()
        finally:
            session.close()  # rolls back what was not committed
