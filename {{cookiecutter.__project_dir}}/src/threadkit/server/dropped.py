"""Requests that end with their worker: each is logged and counted like one that was answered.

Their threads never come to the line that they would have written themselves, and their clients
get no answer whose id they could quote.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from threadkit.context import request_id
from threadkit.observability import logs, metrics
from threadkit.runtime import RequestRecord

_STATUS: Final = 503
"""Nobody receives it; it is what the next worker would be asked again for."""


def described(records: Iterable[RequestRecord]) -> list[dict[str, Any]]:
    """What a line about the worker says of each."""
    return [
        {"id": r.id, "method": r.method, "path": r.path, "seconds": round(r.age, 1)}
        for r in records
    ]


def account_for(records: Iterable[RequestRecord]) -> None:
    """One ``request`` line and one count for each, as the last that is heard of it."""
    for record in records:
        if record.dropped:
            continue
        record.dropped = True
        seconds = record.age
        metrics.leave(record.method, record.route, _STATUS, seconds)
        token = request_id.set(record.id)
        logs.request(
            method=record.method,
            path=record.path,
            route=record.route,
            status=_STATUS,
            duration_ms=round(seconds * 1000, 2),
            dropped="It was cut off with its worker.",
        )
        request_id.reset(token)
