"""Queries that are stopped just when they end: does a stop ever hit somebody else's query?

    python benchmarks/cancels.py [cancels]    # a table; exit status 1 when one did

16 threads share 6 connections. Each runs a query of some milliseconds under a scope that ends
shortly before or just as it does, and then an innocent one on the same connection. Counted are
queries that the server stopped, innocent ones that failed, and connections lost to the pool.
"""

from __future__ import annotations

import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "src")]

from sqlalchemy import text  # noqa: E402
from tests.servers.databases import Databases, UnavailableError  # noqa: E402

from threadkit import runtime as runtimes  # noqa: E402
from threadkit.concurrency import move_on_after  # noqa: E402
from threadkit.database import Database, read  # noqa: E402
from threadkit.runtime import Runtime  # noqa: E402
from threadkit.settings import Settings  # noqa: E402

THREADS, CONNECTIONS = 16, 6
CANCELS = 2_000
"""To reach, for each kind of server."""
PATIENCE = 90
"""Seconds for it."""

_STEPS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000) "
    "SELECT sum(i) FROM n"
)
QUERIES = {
    "sqlite": _STEPS,
    "postgresql": "SELECT pg_sleep(0.01)",
    # Not SLEEP: all that sleep in a MariaDB share one lock, for which KILL itself may wait.
    "mysql": "SELECT SUM(MD5(seq) > 'a') FROM seq_1_to_20000",
}


class Count:
    """Of one kind of server; threads add to it under its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # guards the numbers
        self.innocent = 0
        self.wrong: list[str] = []

    def add(self, wrong: str | None) -> None:
        """One pair of queries."""
        with self.lock:
            self.innocent += 1
            if wrong:
                self.wrong.append(wrong)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """The database as a service has it, with long time-outs of its own."""
    settings = Settings(
        database_url=url,
        concurrency=CONNECTIONS,
        database_pool_size=CONNECTIONS,
        request_timeout=60,
        database_pool_timeout=30,
    )
    runtime = Runtime(settings)
    database = Database(settings, service="cancels")
    runtime.add("database", database)
    runtimes.install(runtime)
    runtime.start()
    try:
        yield database
    finally:
        runtime.close()


def pair(query: str, seconds: float, count: Count) -> None:
    """A query that its scope ends about when it ends, and one that nobody ends, right after."""
    wrong = None
    try:
        with read() as db:
            with move_on_after(seconds):
                db.execute(text(query))
            if db.scalar(text("SELECT 7")) != 7:
                wrong = "a wrong answer"
    except Exception as error:
        wrong = repr(error)
    count.add(wrong)


def alone(query: str) -> float:
    """Seconds that it takes when nothing else runs."""
    with read() as db:
        db.execute(text("SELECT 1"))
        begun = perf_counter()
        db.execute(text(query))
        return perf_counter() - begun


def measure(kind: str, url: str, cancels: int) -> tuple[Count, dict[str, int], float]:
    """Pairs until as many queries were cancelled."""
    count, query = Count(), QUERIES[kind]
    with opened(url) as database:
        usual = statistics.median(alone(query) for _ in range(21))
        begun = perf_counter()
        until = monotonic() + PATIENCE

        def work(number: int) -> None:
            turn = number
            while database.tally.counts()["cancelled"] < cancels and monotonic() < until:
                turn += THREADS
                pair(query, usual * (0.3 + 0.8 * (turn % 61) / 61), count)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(180)
        tally = database.tally.counts()
        tally["lent"] = database.stats()["read_in_use"]
    return count, tally, perf_counter() - begun


def main() -> int:
    """Print the table; 1 where an innocent query was hit or a connection lost."""
    cancels = int(sys.argv[1]) if len(sys.argv) > 1 else CANCELS
    broken = False
    print(f"{'server':12}{'cancelled':>10}{'innocent':>10}{'hit':>6}{'dropped':>9}{'lent':>6}")
    with TemporaryDirectory() as folder:
        databases = Databases(Path(folder))
        try:
            for kind in QUERIES:
                try:
                    url = databases.new(kind, migrated=False)
                except UnavailableError as missing:
                    print(f"{kind:12}{missing}")
                    continue
                count, tally, seconds = measure(kind, url, cancels)
                print(
                    f"{kind:12}{tally['cancelled']:>10}{count.innocent:>10}{len(count.wrong):>6}"
                    f"{tally['dropped']:>9}{tally['lent']:>6}   {seconds:.0f} s",
                    flush=True,
                )
                for wrong in sorted(set(count.wrong))[:5]:
                    print(f"  BROKEN: {wrong}")
                broken = broken or bool(count.wrong or tally["dropped"] or tally["lent"])
                broken = broken or tally["cancelled"] < cancels
        finally:
            databases.stop()
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
