"""What one request did and when: a short, bounded list of spans, for whoever asks why it was slow.

Go's counterpart is ``golang.org/x/net/trace``: each request carries a small log of its own, which
costs next to nothing until somebody looks at it. Rooms write into it where they wait or call out:

    with Span("query", statement):
        cursor.execute(statement, parameters)

Outside a request there is no timeline, and a span only measures itself. Tasks of a group write
into the timeline of the request that started them; background work and cache loads belong to no
request and into none.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from time import monotonic
from types import TracebackType
from typing import Any, Final

MOST_SPANS: Final = 128
"""Spans that a timeline keeps; what comes after them is counted."""
LONGEST_NAME: Final = 200
"""Characters of a span's name that are shown."""


class Timeline:
    """The spans of one request, in the order in which they began.

    Any thread may add to it and look at it: a list's ``append`` is atomic, and two threads that
    meet at the bound may exceed it by one.
    """

    __slots__ = ("dropped", "spans", "started")

    def __init__(self) -> None:
        self.started = monotonic()
        self.spans: list[Span] = []
        self.dropped = 0

    def open_span(self) -> Span | None:
        """The one that began last of those that have not ended: what it does now."""
        return next((span for span in reversed(self.spans) if span.ended is None), None)

    def document(self) -> list[dict[str, Any]]:
        """The spans as JSON: ``kind``, ``name``, ``at`` and ``seconds`` (None: goes on)."""
        return [span.document(self.started) for span in list(self.spans)]


current: ContextVar[Timeline | None] = ContextVar("threadkit_timeline", default=None)


class Span:
    """One thing that a request does, from ``__enter__`` to ``__exit__``. Entered once.

    ``kind`` is one of a few words (query, call, load, join, wait, sleep), ``name`` says which.
    Names are kept as they come and shortened when they are shown, without the literals in them.
    """

    __slots__ = ("ended", "kind", "name", "started")

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.ended: float | None = None

    def __enter__(self) -> Span:
        self.started = monotonic()
        timeline = current.get()
        if timeline is not None:
            if len(timeline.spans) < MOST_SPANS:
                timeline.spans.append(self)
            else:
                timeline.dropped += 1
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended = monotonic()

    def __repr__(self) -> str:
        state = "open" if self.ended is None else f"{self.ended - self.started:.3f} s"
        return f"<Span {self.kind} {shown(self.name)!r} {state}>"

    def document(self, origin: float) -> dict[str, Any]:
        """Itself as JSON, its beginning in seconds from ``origin``."""
        return {
            "kind": self.kind,
            "name": shown(self.name),
            "at": round(self.started - origin, 6),
            "seconds": None if self.ended is None else round(self.ended - self.started, 6),
        }


def shown(name: str) -> str:
    """``name`` on one line, bounded, with string literals and numbers of its own left out.

    Statements come with placeholders, so what they are about is not in them; a literal that
    somebody wrote into the text may be somebody's name all the same.
    """
    name = name[: 4 * LONGEST_NAME]
    name = re.sub(r"'(?:[^']|'')*('|$)", "'…'", name)
    name = " ".join(name.split())
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
