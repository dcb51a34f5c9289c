"""PostgreSQL behind PgBouncer in transaction mode: found out at the connect, and respected.

There each transaction may run on another server connection. So nothing may be left on one:
no prepared statement, which the next transaction would look for in vain, and no ``SET``, which
would hit whoever comes next. PgBouncer refuses the start parameter ``options`` with which the
kit sends its nets, or drops it where ``ignore_startup_parameters`` says so. Both are noticed:
the nets are then the role's to keep (``ALTER ROLE … SET``), and nothing is prepared.

Deadlines work as ever: PgBouncer passes a cancel request on to the server connection that
runs the query, and to no other (from 1.18 on).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import psycopg

C = TypeVar("C", bound="psycopg.Connection[Any]")

log = logging.getLogger(__name__)

_MARK: Final = "threadkit.direct"
"""A setting that means nothing to the server; who has it got our options."""

_REFUSED: Final = "unsupported startup parameter"

_told = False


def connect(open_: Callable[..., C], arguments: Sequence[Any], options: Mapping[str, Any]) -> C:
    """Open a connection with ``options["options"]`` in force, or say once that they are not."""
    if not options.get("options"):
        return open_(*arguments, **options)
    marked = {**options, "options": f"{options['options']} -c {_MARK}=on"}
    try:
        connection = open_(*arguments, **marked)
    except psycopg.OperationalError as error:
        if _REFUSED not in str(error):
            raise
        without = {name: value for name, value in options.items() if name != "options"}
        return _pooled(open_(*arguments, **without))
    return connection if _is_marked(connection) else _pooled(connection)


def _is_marked(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.autocommit = True  # or the question would begin a transaction
        row = connection.execute(f"SELECT current_setting('{_MARK}', true)".encode()).fetchone()
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    return row is not None and row[0] == "on"


def _pooled(connection: C) -> C:
    global _told
    connection.prepare_threshold = None
    if not _told:
        _told = True
        log.warning(
            "the database is behind a pooler that takes no options: nothing is prepared, and "
            "statement_timeout, lock_timeout and idle_in_transaction_session_timeout are the "
            "role's to keep, see Databases in the README"
        )
    return connection
