"""What the database room costs and keeps, on a real PostgreSQL, beside the plain thing.

    python benchmarks/database.py             # a table; exit status 1 when a figure is missed
    python benchmarks/database.py cost race   # parts: ends, race, fairness, cost, exhausted, kill

The plain thing is ``create_engine(url)`` with SQLAlchemy's own pool and no ``pool_pre_ping``,
which would make it slower. Both sides run in turn, in many short rounds, and medians of the
rounds' ratios are compared: a machine that is busy slows both. Wall time is judged, and the
client's CPU seconds where both sides do the same. A ``read()`` saves round trips; half of what
is left of its CPU time builds and compiles the statement, on both sides, so there the figure to
look at is that of a plain engine in autocommit, which is shown beside it. The table ``items``
and a one-row read by its key stand for all.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, process_time

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from tests.servers.databases import Databases

from threadkit import runtime as runtimes
from threadkit.concurrency import CancelScope, fail_after, move_on_after
from threadkit.database import Database, read, transaction
from threadkit.database.faults import PoolExhausted
from threadkit.profiling.switching import SWITCHING
from threadkit.runtime import Runtime
from threadkit.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Figure:
    """One line: a number, what it must be, and what the plain thing does, as text."""

    name: str
    value: float
    limit: float | None
    """None: only shown."""
    at_least: bool = False
    plain: str = ""

    @property
    def verdict(self) -> str:
        """ "ok", "MISSED", or nothing."""
        if self.limit is None:
            return ""
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "ok" if met else "MISSED"


class Base(DeclarativeBase):
    """Of the one table."""


class Item(Base):
    """A row."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price_cents: Mapped[int]
    version: Mapped[int]


class Bench:
    """A server, the kit's database on it, and the plain engine beside it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.plain_url = url.replace("postgresql://", "postgresql+psycopg://")
        self.admin = create_engine(self.plain_url, isolation_level="AUTOCOMMIT")
        Base.metadata.create_all(self.admin)
        with Session(self.admin) as session:
            for number in range(1, 101):
                session.merge(Item(id=number, name=f"item {number}", price_cents=number, version=1))
            session.commit()

    @contextmanager
    def kit(self, size: int = 8, **settings: float) -> Iterator[Database]:
        """The kit's database, as a service has it."""
        values = {"database_pool_size": size, "concurrency": size, **settings}
        runtime = Runtime(Settings.model_validate({"database_url": self.url, **values}))
        database = Database(runtime.settings, service="bench")
        runtime.add("database", database)
        runtimes.install(runtime)
        runtime.start()
        try:
            yield database
        finally:
            runtime.close()

    def is_active(self, query: str) -> bool:
        """Whether a backend of the kit's runs ``query`` now."""
        asked = text(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE :query "
            "AND application_name LIKE 'bench:%'"
        )
        with self.admin.connect() as connection:
            return bool(connection.scalar(asked, {"query": f"%{query}%"}))

    def until(self, query: str, *, active: bool) -> float:
        """When a backend began, or ceased, to run ``query``, to a few milliseconds."""
        while self.is_active(query) is not active:
            time.sleep(0.002)
        return monotonic()

    def close(self) -> None:
        """Close the administrator's connections."""
        self.admin.dispose()


def ends(bench: Bench) -> list[Figure]:
    """A query of 5 s under a deadline of 0.5 s; and one whose scope another thread cancels."""
    answers, after, cancels = [], [], []
    with bench.kit():
        for _ in range(11):
            began = monotonic()
            with move_on_after(0.5), read() as db:
                db.execute(text("SELECT pg_sleep(5)"))
            answers.append(monotonic() - began)
            after.append(max(0.0, bench.until("pg_sleep(5)", active=False) - began - 0.5))
        for _ in range(11):
            scope = CancelScope()

            def work(scope: CancelScope = scope) -> None:
                with scope, read() as db:
                    db.execute(text("SELECT pg_sleep(6)"))

            thread = threading.Thread(target=work)
            thread.start()
            bench.until("pg_sleep(6)", active=True)
            began = monotonic()
            scope.cancel("the client left")
            cancels.append(bench.until("pg_sleep(6)", active=False) - began)
            thread.join()
    return [
        Figure("pg_sleep(5), deadline 500 ms: answered after, ms", _ms(answers), 550),
        Figure("  backend idle after the deadline, ms", _ms(after), 100),
        Figure("scope cancelled: backend idle after, ms", _ms(cancels), 250),
    ]


def race(bench: Bench, cancels: int = 10_000) -> list[Figure]:
    """Cancels aimed at the moment of completion: 16 threads, 6 connections, queries of 2 ms."""
    wrong: list[str] = []
    caught = [0] * 16
    innocent = [0] * 16

    def work(number: int) -> None:
        turn = number
        try:
            while sum(caught) < cancels:
                turn += 16
                with read() as db:
                    with move_on_after(0.0008 + 0.003 * (turn % 61) / 61) as scope:
                        db.execute(text("SELECT pg_sleep(0.002)"))
                    caught[number] += scope.cancelled_caught
                    if db.scalar(text("SELECT 7")) != 7:
                        wrong.append("a wrong answer")
                    innocent[number] += 1
        except Exception as error:
            wrong.append(repr(error))

    with bench.kit(size=6, database_pool_timeout=20, request_timeout=60) as database:
        _together(16, work)
        counts = database.stats()
    print(f"  race: {sum(caught):,} cancels, {sum(innocent):,} innocent queries", wrong[:3])
    return [
        Figure(f"{sum(caught):,} cancels at completion: innocent killed", len(wrong), 0),
        Figure("  connections lost", counts["dropped"] + counts["invalidations"], 0),
    ]


def fairness(bench: Bench, rounds: int = 3) -> list[Figure]:
    """16 threads on 6 connections with queries of 3 ms: the longest wait of all by the fair one.

    With the switch interval of a worker, since the wait for the interpreter counts as well.
    """

    def longest(engine: Engine) -> tuple[float, float]:
        waits: list[float] = []
        holds: list[float] = []
        end = monotonic() + 4

        def work(_: int) -> None:
            while (began := monotonic()) < end:
                with engine.connect() as connection:
                    got = monotonic()
                    connection.execute(text("SELECT pg_sleep(0.003)"))
                waits.append(got - began)
                holds.append(monotonic() - got)

        _together(16, work)
        return max(waits), statistics.mean(holds) * (16 / 6 - 1)

    plain = create_engine(
        bench.plain_url, pool_size=6, max_overflow=0, isolation_level="AUTOCOMMIT"
    )
    ours, theirs = [], []
    with SWITCHING.at_most(0.001):
        for _ in range(rounds):
            with bench.kit(size=6, database_pool_timeout=20, request_timeout=60) as database:
                ours.append(longest(database.read))
            theirs.append(longest(plain)[0])
    plain.dispose()
    wait, fair = max(ours, key=lambda round_: round_[0] / round_[1])
    stock = statistics.median(theirs)
    return [
        Figure(
            "16 threads on 6 connections: longest wait by fair share",
            wait / fair,
            3,
            plain=f"{wait * 1e3:.0f} ms, fair {fair * 1e3:.0f} ms, plain {stock * 1e3:.0f} ms",
        )
    ]


Side = Callable[[int], None]


def cost(bench: Bench, rounds: int = 61) -> list[Figure]:
    """One-row reads, like for like, at 1 and at 8 threads; ratios are plain to ours."""
    plain = create_engine(bench.plain_url, pool_size=8, max_overflow=0)
    single = create_engine(
        bench.plain_url,
        pool_size=8,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        skip_autocommit_rollback=True,
    )
    table = Item.__table__
    figures = []

    def plain_core(number: int) -> None:
        with plain.begin() as connection:
            connection.execute(select(table).where(table.c.id == number)).one()

    def single_core(number: int) -> None:
        with single.connect() as connection:
            connection.execute(select(table).where(table.c.id == number)).one()

    def plain_orm(number: int) -> None:
        with Session(plain, expire_on_commit=False) as session, session.begin():
            session.get(Item, number)

    with bench.kit() as database:

        def guarded_core(number: int) -> None:
            with database.write.begin() as connection:
                connection.execute(select(table).where(table.c.id == number)).one()

        def guarded_orm(number: int) -> None:
            with transaction() as db:
                db.get(Item, number)

        def read_core(number: int) -> None:
            with read() as db:
                db.execute(select(table).where(table.c.id == number)).one()

        def read_orm(number: int) -> None:
            with read() as db:
                db.get(Item, number)

        # The limits are those of wall time and of CPU time.
        pairs: list[tuple[str, Side, Side, float | None, float | None]] = [
            ("guard + pool: engine.begin()", guarded_core, plain_core, 0.93, 0.93),
            ("guard + pool: transaction() to Session.begin()", guarded_orm, plain_orm, 0.93, 0.93),
            ("read() to engine.begin(), Core rows", read_core, plain_core, 1.5, None),
            ("  plain autocommit to engine.begin()", single_core, plain_core, None, None),
            ("read() to Session.begin(), ORM get", read_orm, plain_orm, 1.5, None),
        ]
        for threads in (1, 8):
            for name, ours, theirs, *limits in pairs:
                times = zip(*_compare(ours, theirs, threads, rounds), strict=True)
                for kind, ratios, limit in zip(("wall", "CPU"), times, limits, strict=True):
                    label = f"{name}, {threads} thr., {kind}"
                    low, middle, high = statistics.quantiles(ratios, n=4)
                    spread = f"quartiles {low:.2f} to {high:.2f}"
                    figures.append(Figure(label, middle, limit, at_least=True, plain=spread))
    plain.dispose()
    single.dispose()
    return figures


def _compare(ours: Side, theirs: Side, threads: int, rounds: int) -> list[tuple[float, float]]:
    """Ratios (wall, CPU) of theirs to ours, one a round, in an order that changes."""
    ratios = []
    for number in range(rounds + 1):
        if number % 2:
            mine, other = _round(ours, threads), _round(theirs, threads)
        else:
            other, mine = _round(theirs, threads), _round(ours, threads)
        if number:  # the first one warms up
            ratios.append((other[0] / mine[0], other[1] / mine[1]))
    return ratios


def _round(side: Side, threads: int, times: int = 240) -> tuple[float, float]:
    def work(_: int) -> None:
        with fail_after(60):
            for turn in range(times // threads):
                side(turn % 100 + 1)

    wall, cpu = perf_counter(), process_time()
    _together(threads, work)
    return perf_counter() - wall, process_time() - cpu


def exhausted(bench: Bench) -> list[Figure]:
    """How much later than DATABASE_POOL_TIMEOUT a full pool refuses."""
    late = []
    with bench.kit(size=1, database_pool_timeout=0.3), read() as holder:
        holder.execute(text("SELECT 1"))
        for _ in range(11):
            began = monotonic()
            try:
                with read() as db:
                    db.execute(text("SELECT 1"))
            except PoolExhausted:
                late.append(monotonic() - began - 0.3)
    return [Figure("pool exhausted: refused after the pool wait, ms", _ms(late), 100)]


_VICTIM = """
import sys
from threadkit import runtime as runtimes
from threadkit.database import Database, read
from threadkit.runtime import Runtime
from threadkit.settings import Settings
from sqlalchemy import text

runtime = Runtime(Settings(database_url=sys.argv[1], request_timeout=30))
runtime.add("database", Database(runtime.settings, service="bench"))
runtimes.install(runtime)
with read() as db:
    db.execute(text("SELECT pg_sleep(20)"))
"""


def kill(bench: Bench) -> list[Figure]:
    """A worker dies by SIGKILL in the middle of a query: when is its backend gone?"""
    gone = []
    environ = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    for _ in range(5):
        program = [sys.executable, "-c", _VICTIM, bench.url]
        victim = subprocess.Popen(program, env=environ)  # noqa: S603 - it stands above
        bench.until("pg_sleep(20)", active=True)
        began = monotonic()
        victim.send_signal(signal.SIGKILL)
        victim.wait(10)
        gone.append(bench.until("pg_sleep(20)", active=False) - began)
    return [Figure("worker killed by SIGKILL: backend gone after, ms", _ms(gone), 1500)]


def _ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e3


def _together(count: int, work: Callable[[int], None]) -> None:
    if count == 1:
        work(0)
        return
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


PARTS = {part.__name__: part for part in (ends, race, fairness, cost, exhausted, kill)}


def main() -> int:
    """Measure the parts that are named, or all; say by the exit status whether limits hold."""
    names = sys.argv[1:] or list(PARTS)
    if unknown := set(names) - set(PARTS):
        print(f"no such part: {', '.join(unknown)}. There are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    with TemporaryDirectory() as folder:
        databases = Databases(Path(folder))
        try:
            bench = Bench(databases.new("postgresql", migrated=False))
            for name in names:
                figures += PARTS[name](bench)
            bench.close()
        finally:
            databases.stop()
    print(f"{'figure':66}{'value':>9}  {'limit':>8}  verdict  plain")
    for figure in figures:
        sign = ">=" if figure.at_least else "<="
        limit = "" if figure.limit is None else f"{sign} {figure.limit:g}"
        line = f"{figure.name:66}{figure.value:>9.2f}  {limit:>8}  {figure.verdict:7}"
        print(f"{line}  {figure.plain}")
    return int(any(figure.verdict == "MISSED" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
