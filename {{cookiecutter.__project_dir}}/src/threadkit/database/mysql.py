"""MySQL and MariaDB by PyMySQL; the two differ in how they limit a statement."""

from __future__ import annotations

import math
import re
import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from threadkit.database.dialect import MIGRATION_PATIENCE, WARM, Fault, MigrationsRunning
from threadkit.database.guard import Tally
from threadkit.settings import Settings

# Server and client error numbers, from the reference manuals of both servers.
_AWAY = frozenset({1040, 1042, 1043, 1053, 1129, 1203, 2002, 2003, 2006, 2013, 4031})
_REFUSED = frozenset({1044, 1045, 1049, 1130, 1251, 1698, 2059})
_DEMOTED = frozenset({1290, 1836})
_FULL = frozenset({1021, 1114})
# Errors of the file system, whose text has the system's number.
_FILE = frozenset({3, 1026, 1030})
_TIMEOUT = frozenset({1317, 1969, 3024})
_LOCKED = frozenset({1205})
_CONFLICT = frozenset({1020, 1213})
_MISSING = frozenset({1054, 1146})


class MySQL:
    """A MySQL or MariaDB server."""

    name = "mysql"

    def engine_options(self, settings: Settings, application_name: str) -> dict[str, Any]:
        """The driver's socket limits, in whole seconds; the server's own come in ``limit``."""
        longest = math.ceil(settings.database_statement_timeout) + 1
        return {
            "connect_args": {
                "charset": "utf8mb4",
                "connect_timeout": max(2, round(settings.request_timeout)),
                "read_timeout": longest,
                "write_timeout": longest,
                "program_name": application_name,
            }
        }

    def prepare(self, engine: Engine, *, autocommit: bool) -> None:
        """Nothing: PyMySQL's defaults are sound."""

    def limit(self, engine: Engine, settings: Settings) -> None:
        """Set the session's limits on each connection."""
        seconds = settings.database_statement_timeout
        lock_wait = max(1, math.ceil(settings.request_timeout))

        def set_limits(connection: DBAPIConnection, _record: object) -> None:
            driver: Any = connection
            limits: dict[str, float] = {
                "innodb_lock_wait_timeout": lock_wait,
                "lock_wait_timeout": lock_wait,
            }
            if "mariadb" in driver.get_server_info().lower():
                limits["max_statement_time"] = seconds
                limits["idle_transaction_timeout"] = math.ceil(
                    seconds + settings.max_request_timeout
                )
            else:  # MySQL limits SELECT only, in milliseconds.
                limits["max_execution_time"] = round(seconds * 1000)
            cursor = connection.cursor()
            cursor.execute("SET SESSION " + ", ".join(f"{k} = {v}" for k, v in limits.items()))
            cursor.close()

        event.listen(engine, "connect", set_limits)

    def connect(
        self, arguments: Sequence[Any], options: Mapping[str, Any], tally: Tally
    ) -> DBAPIConnection:
        """By PyMySQL with a guard; the time to connect is bounded by the scope's."""
        from threadkit.database.pymysql_guard import connect

        return connect(arguments, options, tally)

    def alive(self, connection: DBAPIConnection, idle: float) -> bool:
        """An idle connection has nothing to read: what it has is its end, or an error."""
        driver: Any = connection
        if not driver.open:
            return False
        if idle < WARM:
            return True
        poll = select.poll()
        poll.register(driver.fileno(), select.POLLIN)
        return not poll.poll(0)

    def interrupted(self, error: BaseException) -> bool:
        """Never: the guard's waits raise the scope's error."""
        return False

    def demoted(self, error: BaseException, connection: DBAPIConnection) -> bool:
        """The number stands for several options; the text names the one."""
        number, text = (*error.args, "", "")[:2]
        return number in _DEMOTED and "read" in str(text)

    def fault(self, error: DBAPIError) -> Fault | None:
        """By error number."""
        arguments = getattr(error.orig, "args", ())
        number = arguments[0] if arguments and isinstance(arguments[0], int) else None
        if error.connection_invalidated or number in _AWAY:
            return Fault.AWAY
        if number in _FILE and re.search(r"err(no|or):? 28\b", str(error.orig)):
            return Fault.FULL
        for fault, numbers in (
            (Fault.REFUSED, _REFUSED),
            (Fault.FULL, _FULL),
            (Fault.TIMEOUT, _TIMEOUT),
            (Fault.LOCKED, _LOCKED),
            (Fault.CONFLICT, _CONFLICT),
            (Fault.MISSING, _MISSING),
        ):
            if number in numbers:
                return fault
        return None

    @contextmanager
    def migration(self, url: str, *, patience: int) -> Iterator[Connection]:
        """A named lock of the connection's, since each DDL statement here commits by itself."""
        engine = create_engine(
            url, poolclass=NullPool, connect_args={"charset": "utf8mb4", "connect_timeout": 10}
        )
        with engine.connect() as connection:
            wait = {"seconds": MIGRATION_PATIENCE}
            # Names are the server's, not the database's, and have 64 characters.
            lock = "SELECT GET_LOCK(CONCAT('threadkit.', MD5(DATABASE())), :seconds)"
            if connection.execute(text(lock), wait).scalar() != 1:
                raise MigrationsRunning
            connection.execute(text(f"SET SESSION lock_wait_timeout = {patience}"))
            connection.commit()
            yield connection
            connection.commit()
