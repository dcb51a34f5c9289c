"""Many writers at once lose nothing and see no error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..servers.service import Service

Start = Callable[..., Service]

WRITERS, INSERTS = 8, 50


def test_eight_writers_of_fifty_items_each_lose_none(start: Start, database_url: str) -> None:
    service = start(DATABASE_URL=database_url)
    together = threading.Barrier(WRITERS)

    def write(writer: int) -> list[tuple[int, str]]:
        together.wait(30)
        answers = []
        for number in range(INSERTS):
            name = f"{writer}-{number}"
            answer = service.ask("POST", "/v1/items", json={"name": name, "price_cents": number})
            answers.append((answer.status, name))
        return answers

    with ThreadPoolExecutor(WRITERS) as pool:
        answers = [answer for written in pool.map(write, range(WRITERS)) for answer in written]
    assert {status for status, _ in answers} == {201}
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        page = service.ask("GET", f"/v1/items?limit=100&after={after}").json()
        found += [item["name"] for item in page["items"]]
        after = page["next"]
    assert sorted(found) == sorted(name for _, name in answers)
    assert len(found) == WRITERS * INSERTS
    assert [r for r in service.records() if r["level"] in ("error", "critical")] == []


def test_updates_under_if_match_lose_none(start: Start, database_url: str) -> None:
    """Each writer reads, adds one and writes back what nobody else has changed meanwhile."""
    service = start(DATABASE_URL=database_url)
    created = service.ask("POST", "/v1/items", json={"name": "counter", "price_cents": 0})
    path = created.headers["Location"]

    def add(times: int) -> int:
        lost = 0
        while times:
            seen = service.ask("GET", path)
            changed = service.ask(
                "PATCH",
                path,
                json={"price_cents": seen.json()["price_cents"] + 1},
                headers={"If-Match": seen.headers["ETag"]},
            )
            assert changed.status in (200, 412)
            times -= changed.status == 200
            lost += changed.status == 412
        return lost

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, [10] * 4))
    assert service.ask("GET", path).json()["price_cents"] == 40
