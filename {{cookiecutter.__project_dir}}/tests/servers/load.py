"""Clients that go on whatever happens, and remember what they were told."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Self

import urllib3


@dataclass(frozen=True, slots=True)
class Answer:
    """To one request. Status 0: there was none."""

    began: float
    seconds: float
    status: int
    name: str | None
    """Of the item that was to be made."""


class Load:
    """``clients`` threads that make items and read them, each one request after another.

    ``with`` starts and joins them. Nobody hurries after an error: 50 ms pass before the next.
    """

    def __init__(self, url: str, *, clients: int, seconds: float = 15.0) -> None:
        self.answers: list[Answer] = []  # appended to by all of them, which is one atomic step
        self._url = url
        self._http = urllib3.PoolManager(maxsize=clients, retries=False, timeout=seconds)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"client-{number}")
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self._http.clear()

    def alive(self) -> list[str]:
        """Clients that still wait for an answer, after the end."""
        return [thread.name for thread in self._threads if thread.is_alive()]

    def statuses(self) -> Counter[int]:
        """How often each was answered."""
        return Counter(answer.status for answer in list(self.answers))

    def acknowledged(self) -> set[str]:
        """The items that the service said it had made."""
        return {answer.name for answer in self.answers if answer.status == 201 and answer.name}

    def first_success(self, *, since: float) -> float | None:
        """When the first request that began after ``since`` was answered well."""
        good = [a.began + a.seconds for a in list(self.answers) if a.began >= since and ok(a)]
        return min(good, default=None)

    def slowest(self, *, since: float) -> float:
        """Seconds of the slowest answer to what began after ``since``."""
        return max((a.seconds for a in list(self.answers) if a.began >= since), default=0.0)

    def _run(self, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            name = f"{number}-{turn}" if turn % 2 else None
            answer = self._ask(name)
            self.answers.append(answer)
            if not ok(answer):
                self._stop.wait(0.05)

    def _ask(self, name: str | None) -> Answer:
        began = monotonic()
        body = json.dumps({"name": name, "price_cents": 1})
        try:
            if name is None:
                status = self._http.request("GET", f"{self._url}/v1/items?limit=5").status
            else:
                status = self._http.request(
                    "POST",
                    f"{self._url}/v1/items",
                    body=body,
                    headers={"Content-Type": "application/json"},
                ).status
        except urllib3.exceptions.HTTPError:
            status = 0
        return Answer(began, monotonic() - began, status, name)


def ok(answer: Answer) -> bool:
    """Whether it was answered well."""
    return answer.status in (200, 201)


def all_names(url: str) -> set[str]:
    """The names of all the items that are there, page by page."""
    http = urllib3.PoolManager(retries=False, timeout=15)
    names: set[str] = set()
    after: int | None = 0
    while after is not None:
        page = http.request("GET", f"{url}/v1/items?limit=100&after={after}").json()
        names |= {item["name"] for item in page["items"]}
        after = page["next"]
    http.clear()
    return names
