"""Claim: every Python line of the README's phrasebook does what the Go line beside it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from threadkit.concurrency import background, close_shared_executor
from threadkit.testing import no_leaked_threads  # noqa: F401 - autouse

README = Path(__file__).resolve().parents[2] / "README.md"
HEADING = "## Phrasebook: from Go"
GO_NAMES = [
    "context.WithTimeout", "context.Cause", "ctx.Deadline", "time.After", "context.AfterFunc",
    "context.WithoutCancel", "context.WithValue", "errgroup.WithContext", "go f()",
    "buffered channel", "semaphore.Weighted", "flights.Do", "singleflight", "LoadOrStore",
    "CompareAndSwap", "pool.Get", "context.DeadlineExceeded",
]  # fmt: skip


class Connection:
    """Something that a snippet closes."""

    closed = False

    def close(self) -> None:
        self.closed = True


def phrasebook() -> str:
    text = README.read_text(encoding="utf-8")
    assert HEADING in text, f"{README} has no section {HEADING!r}"
    section = text.split(HEADING, 1)[1]
    return re.split(r"^## ", section, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.fixture
def names() -> dict[str, Any]:
    done: list[int] = []
    connection = Connection()
    return {"work": lambda: done.append(1), "done": done, "connection": connection}


def test_every_snippet_runs_and_its_asserts_hold(names: dict[str, Any]) -> None:
    snippets = re.findall(r"```python\n(.*?)```", phrasebook(), re.DOTALL)
    assert len(snippets) >= 15
    for snippet in snippets:
        exec(compile(snippet, str(README), "exec"), names)
    # What the snippets do without saying so in an assert of their own:
    assert len(names["done"]) == 3  # in fail_after, in the background, in the bulkhead
    assert not names["connection"].closed
    assert names["reports"].stats()["inside"] == 0
    assert names["square"].cache.stats()["loads"] == 1
    assert 7 not in names["prices"]
    close_shared_executor(timeout=5)
    assert background.drain(5).dropped == ()
    background.configure()


def test_every_go_name_of_the_room_has_its_row() -> None:
    text = phrasebook()
    assert [name for name in GO_NAMES if name not in text] == []
