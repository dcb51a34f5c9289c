"""The session of ``read()``: SQLAlchemy's, without the transaction that it does not need.

A ``Session`` puts a transaction of its own around its connection, with snapshots to roll back
to; where each statement commits by itself, that is bookkeeping for nothing. This one asks its
engine for a connection at the first statement and gives it back at the end.

Rests on ``Session._connection_for_bind``, the one place where a session gets its connection, on
``_transaction``, ``_new`` and ``_deleted``, with which there is something to end, on
``_execute_internal``, through which it executes, and ``_propagate_attrs``, by which a statement
knows that it loads objects, on ``_raw_columns`` and ``_result_disable_adapt_to_context``, and on
``Connection(_allow_autobegin=False, _has_events=False)``; a contract test pins them.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, Select, Table
from sqlalchemy.orm import Session
from sqlalchemy.util import immutabledict

_READ_ONLY = (
    "read() commits each statement by itself, so a change here could end up half done. "
    "Use transaction() to change something."
)

# Where SQLAlchemy takes a compiled statement from its cache, it maps the rows to the columns of
# the new one all the same, at a tenth of a read. A table's columns are the same objects in both.
_KNOWN: Final = immutabledict({"_result_disable_adapt_to_context": True})


class ReadSession(Session):
    """Reads, each statement for itself; ``RuntimeError`` on a change. One thread uses it."""

    _own: Connection | None = None

    def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Any:
        """The engine, for what changes nothing. SQLAlchemy asks before every statement."""
        if clause is not None and clause.is_dml:
            raise RuntimeError(_READ_ONLY)
        return self.bind

    def flush(self, objects: Any = None) -> None:
        """Nothing, or an error where something has been changed."""
        if self.new or self.dirty or self.deleted:
            raise RuntimeError(_READ_ONLY)

    def _execute_internal(self, statement: Any, params: Any = None, **options: Any) -> Any:
        """What selects rows, and no objects, has no use for what a session does around it."""
        plain = isinstance(statement, Select) and not statement._propagate_attrs
        if not plain or any(options.values()) or self.dispatch.do_orm_execute:
            return super()._execute_internal(statement, params, **options)
        assert isinstance(self.bind, Engine)
        known = all(map(_is_of_a_table, statement._raw_columns))
        return self._connection_for_bind(self.bind).execute(
            statement, params, execution_options=_KNOWN if known else None
        )

    def _connection_for_bind(
        self, engine: Engine | Connection, execution_options: Any = None, **_options: Any
    ) -> Connection:
        connection = self._own
        if connection is None:
            assert isinstance(engine, Engine)
            # Without listeners there is no reason to join them with the connection's, either.
            events = None if engine._has_events or Connection._has_events else False
            connection = self._own = Connection(engine, _has_events=events, _allow_autobegin=False)
            if execution_options:
                connection.execution_options(**execution_options)
        return connection

    def close(self) -> None:
        """Give the connection back; what was loaded stays readable."""
        try:
            if self._transaction is not None or self.identity_map or self._new or self._deleted:
                super().close()
        finally:
            connection, self._own = self._own, None
            if connection is not None:
                connection.close()


def _is_of_a_table(selected: object) -> bool:
    return type(selected) is Table or (type(selected) is Column and type(selected.table) is Table)
