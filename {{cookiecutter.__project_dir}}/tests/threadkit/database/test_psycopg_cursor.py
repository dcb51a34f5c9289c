"""Columns that are described on demand are psycopg's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

psycopg = pytest.importorskip("psycopg")

from threadkit.database.psycopg_cursor import LazyCursor  # noqa: E402


@pytest.fixture
def connection(new_database: Callable[..., str]) -> Iterator[Any]:
    """A connection of psycopg's own class."""
    with psycopg.connect(new_database("postgresql", migrated=False), autocommit=True) as opened:
        yield opened


QUERY = "SELECT 1 AS n, 'x'::varchar(5) AS s, 1.5::numeric(4, 2) AS d"


def test_a_description_is_psycopgs_own(connection: Any) -> None:
    expected = connection.execute(QUERY).description
    found = LazyCursor(connection).execute(QUERY).description
    assert len(found) == 3
    assert [tuple(column) for column in found] == [tuple(column) for column in expected]
    assert found[2].precision == 4
    assert [column.name for column in found[:2]] == ["n", "s"]
    assert repr(found) == repr(expected)


def test_it_stays_that_of_its_own_query(connection: Any) -> None:
    cursor = LazyCursor(connection)
    before = cursor.execute(QUERY).description
    cursor.execute("SELECT 2 AS other")
    cursor.close()
    assert [column.name for column in before] == ["n", "s", "d"]


@pytest.mark.parametrize("query", ["SELECT", "SET search_path TO public"])
def test_where_there_are_no_columns_it_is_psycopgs_too(connection: Any, query: str) -> None:
    expected = connection.execute(query).description
    assert LazyCursor(connection).execute(query).description == expected


def test_before_a_query_there_is_none(connection: Any) -> None:
    assert LazyCursor(connection).description is None


def test_a_time_zone_that_is_set_counts_from_the_next_query_on(connection: Any) -> None:
    """Why a cursor inherits nothing from the one before."""
    query = "SELECT timestamptz '2026-01-01 00:00+00'"
    for zone, hour in (("UTC", 0), ("Asia/Tokyo", 9)):
        connection.execute(f"SET TIME ZONE '{zone}'")
        ((found,),) = LazyCursor(connection).execute(query).fetchall()
        assert found.hour == hour


def test_what_a_column_asks_of_its_cursor_is_what_it_did() -> None:
    """An upgrade that moves one of them fails here, and not in the middle of the night."""
    source = inspect.getsource(psycopg.Column.__init__)
    asked = {word.split("cursor.")[1].split(".")[0] for word in source.split() if "cursor." in word}
    assert {name.strip("()[],:") for name in asked} == {"pgresult", "_encoding", "adapters"}
