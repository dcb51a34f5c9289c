"""A unit of work, and the same once more where another one got in its way.

    with transaction() as db:
        db.get_one(Item, item_id).name = name

    def move(db: Session) -> int:
        ...
    moved = transaction(retries=3).run(move)

A server that finds two transactions in each other's way ends one of them: a deadlock, or a
serialisation failure. That one is undone completely and may run again, and nothing else may:
whoever repeats an error that is not of this kind repeats a mistake.

Python cannot run a ``with`` block twice, and a loop around one (``for attempt in …: with
attempt:``) hides which lines are repeated. So what is repeated is a function that gets its
session, and each run gets a new one: nothing of the failed run is left in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, TypeVar

from sqlalchemy.orm import Session

from threadkit.concurrency import remaining, sleep
from threadkit.database.faults import TransactionConflict

T = TypeVar("T")

FIRST_PAUSE: Final = 0.01
"""Seconds that the first pause may last; each further one twice as long."""
LONGEST_PAUSE: Final = 0.5


class Transaction(AbstractContextManager[Session]):
    """One unit of work, as a ``with`` block or as a function. For one use, in one thread."""

    def __init__(self, open_: Callable[[], AbstractContextManager[Session]], retries: int) -> None:
        if retries < 0:
            raise ValueError(f"transaction(retries={retries}): zero or more")
        self._open = open_
        self._retries = retries
        self._block: AbstractContextManager[Session] | None = None

    def __repr__(self) -> str:
        state = "not open" if self._block is None else "open"
        return f"<Transaction {state}, retries={self._retries}>"

    def __enter__(self) -> Session:
        if self._retries:
            raise RuntimeError(
                "Python cannot run a with-block twice, so nothing would be tried again. Write "
                "`with transaction() as db:`, or put the block into a function of its session "
                f"and call transaction(retries={self._retries}).run(function)."
            )
        if self._block is not None:
            raise RuntimeError("a transaction is for one block: call transaction() for each")
        self._block = self._open()
        return self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._block is not None
        return self._block.__exit__(kind, error, traceback)

    def run(self, work: Callable[[Session], T]) -> T:
        """Call ``work(session)`` and commit; what it returns. It may be called several times.

        So it changes nothing but the database: no mail, no call, no list outside. After a
        deadlock or a serialisation failure it runs again, ``retries`` times at most, after a
        random pause, and not where the scope's deadline would pass in that pause;
        ``TransactionConflict`` (503) is what is left. Every other error passes at once.
        """
        attempt = 0
        while True:
            try:
                with self._open() as session:
                    return work(session)
            except TransactionConflict:
                if attempt == self._retries:
                    raise
                longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
                pause = random.uniform(0, longest)
                left = remaining()
                if left is not None and pause >= left:
                    raise
            attempt += 1
            sleep(pause)
