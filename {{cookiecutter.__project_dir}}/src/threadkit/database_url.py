"""The address of a database: its grammar, and what can be known of it before anything connects.

    normalised("postgres://me@db.internal/shop")   # "postgresql+psycopg://me@db.internal/shop"
    path_fault("sqlite:////data/shop.db")          # None, or why that file cannot be written

The grammar is SQLAlchemy's, spelt out here so that the process which only reads settings need
not import it. An address holds a password, so no message quotes more of it than the scheme,
the port, the host or the path of a file.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote


class _Driver(NamedTuple):
    module: str
    extra: str | None


_DRIVERS = {
    "sqlite": _Driver("sqlite3", None),
    "postgresql+psycopg": _Driver("psycopg", "postgresql"),
    "mysql+pymysql": _Driver("pymysql", "mysql"),
    "mariadb+pymysql": _Driver("pymysql", "mysql"),
}
# What people write, and what it stands for.
_SCHEMES = {
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    **{scheme: scheme for scheme in _DRIVERS},
}
_EXAMPLES = (
    "write for example sqlite:///var/app.db, postgresql://user@host/name or mysql://user@host/name"
)
_ADDRESS = re.compile(
    r"(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:\[(?P<ipv6>[^/?]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>[^/?]*))?"
    r"(?:/(?P<name>[^?]*))?(?:\?(?P<query>.*))?",
)


def normalised(value: str) -> str:
    """The address with the kit's driver in it; ``ValueError`` says what is wrong with it."""
    value = value.strip()  # secrets out of files end with a line break
    if not value:
        raise ValueError(f"empty; {_EXAMPLES}")
    scheme, separator, rest = value.partition("://")
    if not separator:
        raise ValueError(f"not a database address; {_EXAMPLES}")
    full = _SCHEMES.get(scheme)
    if full is None:
        raise ValueError(_unknown(scheme))
    match = _ADDRESS.fullmatch(rest)
    if match is None or (full != "sqlite" and any(letter.isspace() for letter in rest)):
        raise ValueError(
            "not a database address: percent-encode what is special in a name or password "
            f"(a blank is %20), and {_EXAMPLES}"
        )
    if full == "sqlite":
        _check_file(match)
    else:
        _check_server(scheme, match)
    return f"{full}://{rest}"


def driver_fault(url: str) -> str | None:
    """Which extra brings the driver of this normalised address; None where it is installed."""
    driver = _DRIVERS.get(url.partition(":")[0])
    if driver is None or driver.extra is None or find_spec(driver.module) is not None:
        return None
    return (
        f"DATABASE_URL names a server whose driver {driver.module} is not installed: "
        f"pip install '.[{driver.extra}]', or requirements/{driver.extra}.txt"
    )


def path_fault(url: str) -> str | None:
    """Why SQLite cannot write the file of this normalised address; None where it can.

    Nothing is made. Missing folders are in order as far as they can be made: the service
    makes them. A relative path counts from the present folder.
    """
    path = _file(url)
    reason = None if path is None else _unusable(path) or _unwritable(path)
    return reason and f"DATABASE_URL names {path}, {reason}"


def without_password(text: str, url: str) -> str:
    """``text`` in which the password of ``url`` is starred out, should a driver have quoted it."""
    match = _ADDRESS.fullmatch(url.partition("://")[2])
    password = match["password"] if match else None
    for secret in {password, unquote(password)} if password else ():
        text = text.replace(secret, "***")
    return text


def _unknown(scheme: str) -> str:
    if not re.fullmatch(r"[\w+]{1,30}", scheme):
        return f"not a database address; {_EXAMPLES}"
    backend, _, driver = scheme.partition("+")
    if driver and backend in _SCHEMES:
        return (
            f"the kit's deadlines do not work with the driver {driver}: "
            f"write {backend}://… and the kit chooses its own"
        )
    near = get_close_matches(backend.lower(), _SCHEMES, n=1)
    meant = f"did you mean {near[0]}://…? " if near else ""
    return f"{scheme}:// is not a kind of database that the kit knows: {meant}{_EXAMPLES}"


def _check_file(match: re.Match[str]) -> None:
    if match["host"] or match["ipv6"] or match["user"]:
        raise ValueError(
            "a SQLite path follows three slashes, an absolute one four: write "
            "sqlite:///var/app.db or sqlite:////var/lib/app.db"
        )
    name, query = (match["name"] or "").strip("/"), parse_qs(match["query"] or "")
    if name in ("", ":memory:", "file:", "file::memory:") or query.get("mode") == ["memory"]:
        raise ValueError(
            "an in-memory database would be another one for every connection; "
            "name a file, as in sqlite:///var/app.db"
        )


def _check_server(scheme: str, match: re.Match[str]) -> None:
    host, port, name = match["ipv6"] or match["host"] or "", match["port"] or "", match["name"]
    if "@" in host + port + (name or ""):
        raise ValueError("the password has an @ in it: write %40 instead (and %25 for a %)")
    if "," in host + port:
        raise ValueError(
            f"several hosts go into the query: {scheme}://user@/name?host=one:5432&host=two:5432"
        )
    is_number = re.fullmatch("[0-9]{1,5}", port) is not None
    if match["port"] is not None and not (is_number and 0 < int(port) < 65_536):
        # Where no user is named this may be a password whose @ was forgotten.
        shown = port if match["user"] is not None else "what stands there"
        raise ValueError(
            f"the port is a number from 1 to 65535, and {shown} is none; what is special in a "
            "name or password is percent-encoded (: is %3A, / is %2F)"
        )
    if not name:
        raise ValueError(f"the name of the database is missing; write {scheme}://user@host/name")


def _file(url: str) -> Path | None:
    scheme, _, rest = url.partition("://")
    name = unquote(rest.partition("?")[0].removeprefix("/"))
    return None if scheme != "sqlite" or name.startswith("file:") else Path(name)


def _unusable(path: Path) -> str | None:
    if path.is_dir():
        return f"which is a folder: name a file in it, as {path}/app.db"
    if path.exists() and not path.is_file():
        return "which is not a file: name another one"
    folder = _nearest_folder(path)
    return None if folder.is_dir() else f"but {folder} is a file and no folder: name another path"


def _unwritable(path: Path) -> str | None:
    folder = _nearest_folder(path)
    if path.exists() and not _may(path, os.R_OK | os.W_OK):
        return f"which {_me()} may not write: {_remedy(path)}"
    if not _may(folder, os.R_OK | os.W_OK | os.X_OK):
        return (
            f"and {_me()} may not write in the folder {folder}, where SQLite keeps its journal "
            f"beside the file: {_remedy(folder)}"
        )
    return None


def _nearest_folder(path: Path) -> Path:
    """The folder in which the first thing would have to be made."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _may(path: Path, how: int) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(path, how, effective_ids=effective)


def _me() -> str:
    return f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"


def _remedy(path: Path) -> str:
    return f"give it the right to ({path.stat().st_mode & 0o777:03o} now), or name another path"
