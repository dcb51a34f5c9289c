"""psycopg's cursor, which describes the columns of a result only to somebody who asks.

SQLAlchemy reads ``description`` after each query, and looks into it only for the first of a
kind: then it knows the columns. psycopg makes an object for each of them, each time, which for
four columns costs as much as a third of what the driver does for a one-row read.

Rests on what psycopg's ``Column`` asks of a cursor, ``pgresult``, ``adapters`` and ``_encoding``;
a contract test pins it. Not taken over from the cursor before: how it reads and writes types.
psycopg looks that up for each query because ``SET TIME ZONE`` changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import Column

if TYPE_CHECKING:
    from psycopg.adapt import AdaptersMap
    from psycopg.pq.abc import PGresult


class LazyCursor(psycopg.Cursor[Any]):
    """A cursor whose ``description`` is made at the first look into it."""

    __slots__ = ()

    @property
    def description(self) -> Any:
        """The columns of the present result; None where it has none."""
        result = self.pgresult
        if result is None or not result.nfields:
            return super().description
        return _Columns(result, self._adapters, self._encoding)


class _Columns(Sequence[Column]):
    """The columns of one result, also when its cursor has gone on to the next."""

    __slots__ = ("_encoding", "_made", "adapters", "pgresult")

    def __init__(self, result: PGresult, adapters: AdaptersMap, encoding: str) -> None:
        self.pgresult = result
        self.adapters = adapters
        self._encoding = encoding
        self._made: list[Column] | None = None

    def __len__(self) -> int:
        return self.pgresult.nfields

    def __getitem__(self, index: Any) -> Any:
        made = self._made
        if made is None:
            asked: Any = self
            made = self._made = [Column(asked, number) for number in range(len(self))]
        return made[index]

    def __eq__(self, other: object) -> bool:
        return list(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))
