"""Sessions: ``read()`` for looking, ``transaction()`` for changing.

    with read() as db:
        item = db.get(Item, item_id)

    with transaction() as db:
        item = db.get_one(Item, item_id)
        item.name = name

Both are short by construction: the connection goes back when the block ends, what was
loaded stays readable afterwards, and nothing loads behind your back once it is closed. Go's
counterparts are ``db.QueryContext`` and ``db.BeginTx``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session

from threadkit import runtime
from threadkit.concurrency import checkpoint
from threadkit.database.engine import Database
from threadkit.database.faults import translated

_READ_ONLY = (
    "read() commits each statement by itself, so a change here could end up half done. "
    "Use transaction() to change something."
)


@contextmanager
def read() -> Iterator[Session]:
    """A session that only reads, each statement for itself; ``RuntimeError`` on a change.

    Two statements may see two states of the database: use ``transaction`` where they must
    agree. The session belongs to the thread that opened it.
    """
    checkpoint()
    database = runtime.current().get(Database)
    with translated(database.dialect, database.schema_fault), database.reads() as session:
        event.listen(session, "do_orm_execute", _refuse_change)
        event.listen(session, "before_flush", _refuse_flush)
        yield session


@contextmanager
def transaction() -> Iterator[Session]:
    """A unit of work: commits where the block ends, rolls back where it raises.

    Keep it short and call nothing slow inside: it holds locks. The session belongs to the
    thread that opened it.
    """
    checkpoint()
    database = runtime.current().get(Database)
    with (
        translated(database.dialect, database.schema_fault),
        database.transactions() as session,
        session.begin(),
    ):
        yield session


def _refuse_change(state: ORMExecuteState) -> None:
    if state.is_insert or state.is_update or state.is_delete:
        raise RuntimeError(_READ_ONLY)


def _refuse_flush(session: Session, _context: object, _instances: object) -> None:
    if session.new or session.dirty or session.deleted:
        raise RuntimeError(_READ_ONLY)
