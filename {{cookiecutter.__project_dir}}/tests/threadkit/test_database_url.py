"""What is wrong with a database's address is said before anything connects, and without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from threadkit.database_url import driver_fault, normalised, path_fault, without_password

NOBODY = 65_534


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u@h/n", "postgresql+psycopg://u@h/n"),
        ("postgresql+psycopg://u@h/n", "postgresql+psycopg://u@h/n"),
        ("mariadb://u@h/n", "mariadb+pymysql://u@h/n"),
        ("sqlite+pysqlite:///a b.db", "sqlite:///a b.db"),
        ("postgresql://u@h/n\n", "postgresql+psycopg://u@h/n"),
        (
            "postgresql://u:p%40%2F%25@[::1]:5433/n",
            "postgresql+psycopg://u:p%40%2F%25@[::1]:5433/n",
        ),
        ("postgresql:///n?host=/run/pg", "postgresql+psycopg:///n?host=/run/pg"),
        ("mysql://u:p/w:d@h/n?ssl_ca=/ca.pem", "mysql+pymysql://u:p/w:d@h/n?ssl_ca=/ca.pem"),
        ("sqlite:////var/app.db", "sqlite:////var/app.db"),
        ("sqlite:///file:var/app.db?uri=true", "sqlite:///file:var/app.db?uri=true"),
    ],
)
def test_a_good_address_gets_the_kits_driver_and_sqlalchemy_reads_it(given: str, used: str) -> None:
    assert normalised(given) == used
    assert make_url(used).database


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("", "postgresql://user@host/name"),
        ("   ", "empty"),
        ("hush", "not a database address"),
        ("postgressql://u:hush@h/n", "did you mean postgresql://"),
        ("mongodb://u:hush@h/n", "mongodb:// is not a kind of database"),
        ("postgresql+psycopg2://u:hush@h/n", "write postgresql://"),
        ("postgresql+asyncpg://u:hush@h/n", "asyncpg"),
        ("postgresql://u:hush@h:99999/n", "99999"),
        ("postgresql://u:hush@h:0/n", "1 to 65535"),
        ("postgresql://u:hush@h:/n", "1 to 65535"),
        ("postgresql://u:hush@h:54٣2/n", "1 to 65535"),
        ("postgresql://u:hush/n", "1 to 65535"),
        ("postgresql://u:hu@sh@h/n", "%40"),
        ("postgresql://u:hu@s:h@h/n", "%40"),
        ("postgresql://u:hu@s/h@h/n", "%40"),
        ("postgresql://u:hu sh@h/n", "percent-encode"),
        ("postgresql://u:hush@one:5432,two:5432/n", "?host=one:5432&host=two:5432"),
        ("postgresql://u:hush@h", "name of the database is missing"),
        ("mysql://u:hush@h/?x=y", "name of the database is missing"),
        ("sqlite://var/app.db", "three slashes"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "name a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "name a file"),
    ],
)
def test_a_bad_address_is_refused_with_its_remedy_and_without_its_password(
    url: str, remedy: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(remedy)) as caught:
        normalised(url)
    message = str(caught.value)
    assert not {"hush", "hu", "sh"} & set(message.replace("@", " ").replace(":", " ").split())


def test_a_password_is_starred_out_however_it_is_written() -> None:
    url = "postgresql+psycopg://me:p%40ss@h/n"
    assert without_password("bad p@ss, bad p%40ss", url) == "bad ***, bad ***"
    assert without_password("me and h", url) == "me and h"
    assert without_password("nothing", "sqlite:///app.db") == "nothing"


def test_a_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threadkit.database_url.find_spec", lambda name: None)
    assert "'.[mysql]'" in (driver_fault("mysql+pymysql://u@h/n") or "")
    assert "'.[postgresql]'" in (driver_fault("postgresql+psycopg://u@h/n") or "")
    assert driver_fault("sqlite:///app.db") is None


def fault(path: Path) -> str:
    return path_fault(f"sqlite:///{path}") or ""


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, whom no mode of a file stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """Everybody may look into it."""
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


def test_a_file_that_can_be_made_is_no_fault(tmp_path: Path) -> None:
    assert path_fault(f"sqlite:///{tmp_path}/new/folders/app.db") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "app.db").touch()
    assert path_fault(f"sqlite:///{tmp_path}/app.db") is None
    assert path_fault("postgresql+psycopg://u@h/n") is None


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    assert f"{tmp_path}/app.db" in fault(tmp_path)


def test_a_device_is_no_database() -> None:
    assert "not a file" in fault(Path("/dev/null"))


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").touch()
    assert f"{tmp_path}/var is a file" in fault(tmp_path / "var" / "app.db")


def test_a_folder_without_the_right_to_write_is_named(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    with as_nobody():
        message = fault(open_folder / "new" / "app.db")
    assert f"may not write in the folder {open_folder}" in message
    assert "555 now" in message


def test_a_file_without_the_right_to_write_is_named(open_folder: Path) -> None:
    (open_folder / "app.db").touch(0o444)
    open_folder.chmod(0o777)
    with as_nobody():
        message = fault(open_folder / "app.db")
    assert f"{open_folder}/app.db, which user" in message
    assert "444 now" in message
