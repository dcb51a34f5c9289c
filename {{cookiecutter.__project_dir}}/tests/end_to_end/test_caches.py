"""What one worker changes, the others forget."""

from __future__ import annotations

from collections.abc import Callable

from ..servers.processes import eventually
from ..servers.service import Service

Start = Callable[..., Service]


def related(service: Service) -> dict[int, list[int]]:
    """The cached answer about item 1, by the worker that gave it."""
    # Each on a connection of its own, which any worker may accept.
    answers = [
        service.ask("GET", "/v1/items/1/overview", headers={"Connection": "close"})
        for _ in range(8)
    ]
    found = {a.headers["X-Request-ID"]: [i["id"] for i in a.json()["related"]] for a in answers}

    def workers() -> dict[str, int]:
        # A line of the log is written after the last byte of the answer.
        pids = {record["request_id"]: record["pid"] for record in service.records("request")}
        return pids if found.keys() <= pids.keys() else {}

    pids = eventually(workers, what="each answer is in the log")
    return {pids[identity]: ids for identity, ids in found.items()}


def test_a_change_in_one_worker_is_seen_in_all(start: Start) -> None:
    service = start()
    for price in (100, 110, 1000):
        service.ask("POST", "/v1/items", json={"name": f"at {price}", "price_cents": price})
    warm = eventually(
        lambda: found if len(found := related(service)) == 2 else {},
        what="both workers have cached the answer",
    )
    assert set(map(tuple, warm.values())) == {(2, 3)}
    service.ask("PATCH", "/v1/items/1", json={"price_cents": 1000})
    fresh = eventually(
        lambda: found if len(found := related(service)) == 2 else {},
        what="both workers have answered again",
    )
    assert set(map(tuple, fresh.values())) == {(3, 2)}
