"""What the concurrency room costs, as ratios to the plain thing in the same run.

    python benchmarks/concurrency.py          # a table; exit status 1 when a limit is broken

Both sides run in turn, in many short rounds, and the medians are compared: a machine that is busy
slows both. A ratio counts as broken only when it is more than `MARGIN` above its limit, as single
runs scatter that much; run it again before you believe a number near its limit.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, sleep

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from threadkit.concurrency import (
    BoundedExecutor,
    Bulkhead,
    Cache,
    Cancelled,
    CancelScope,
    CopyOnWriteMap,
    apply_invalidation,
    checkpoint,
    close_shared_executor,
    fail_after,
    move_on_after,
)
from threadkit.concurrency import sleep as scoped_sleep
from threadkit.concurrency.timer import LINGER, timer
from threadkit.peers import Peers

MARGIN = 1.15
"""How far above its limit a median must lie to count."""

Side = Callable[[], float]
"""Runs one short round and returns seconds per operation."""


@dataclass(frozen=True)
class Figure:
    """One line of the table. `ours` and `plain` are in `unit`, or counts where `unit` is ''."""

    name: str
    ours: float
    plain: float
    limit: float
    unit: str = "ns"

    @property
    def ratio(self) -> float:
        """Ours to the plain thing's; for counts it is ours against the limit alone."""
        return self.ours / self.plain if self.plain else self.ours

    @property
    def verdict(self) -> str:
        """ "ok", "near" (above the limit within the margin) or "BROKEN"."""
        if self.ratio <= self.limit:
            return "ok"
        return "near" if self.unit and self.ratio <= self.limit * MARGIN else "BROKEN"


def compare(
    name: str, ours: Side, plain: Side, limit: float, *, rounds: int = 41, unit: str = "ns"
) -> Figure:
    """Interleave both sides and compare their medians."""
    ours()
    plain()
    pairs = [(ours(), plain()) for _ in range(rounds)]
    scale = {"ns": 1e9, "us": 1e6, "ms": 1e3}[unit]
    left, right = (statistics.median(side) * scale for side in zip(*pairs, strict=True))
    return Figure(name, left, right, limit, unit)


def loop(statement: str, times: int = 5_000, /, **names: object) -> Side:
    """A round of `times` runs of a statement, with the statement in the loop's own body."""
    code = f"def round():\n b = clock()\n for _ in rounds:\n  {statement}\n return clock() - b"
    space: dict[str, object] = {"clock": perf_counter, "rounds": range(times), **names}
    exec(code, space)  # noqa: S102 - the statements stand in this file
    run = space["round"]
    assert callable(run)
    return lambda: run() / times


def in_threads(side: Side, count: int, times: int = 5_000) -> Side:
    """Rounds of `times` operations in several threads at once; seconds per operation of all."""

    def together() -> float:
        start = threading.Barrier(count + 1)

        def work() -> None:
            start.wait()
            side()

        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        start.wait()
        began = perf_counter()
        for thread in threads:
            thread.join()
        return (perf_counter() - began) / (count * times)

    return together


def scopes() -> list[Figure]:
    """Entering, leaving and looking, against an uncontended lock."""
    plain = loop("\n  with lock: pass", lock=threading.Lock())
    enter = loop("\n  with move_on_after(60): pass", move_on_after=move_on_after)
    look = loop("checkpoint()", checkpoint=checkpoint)

    def within(side: Side) -> Side:
        def run() -> float:
            with fail_after(60):
                return side()

        return run

    return [
        compare("scope enter + exit", enter, plain, 50),
        compare("scope enter + exit, in a scope", within(enter), plain, 50),
        compare("checkpoint, in a scope", within(look), plain, 5),
    ]


def executors() -> list[Figure]:
    """Submit and wait for the result, one after another and in batches."""
    with ThreadPoolExecutor(2) as theirs, BoundedExecutor(2, 128) as ours:
        single = "pool.submit(nothing).result()"
        batch = "\n  for f in [pool.submit(nothing) for _ in range(64)]: f.result()"
        names = {"nothing": lambda: None}
        figures = [
            compare(
                "executor submit + result",
                loop(single, 200, pool=ours, **names),
                loop(single, 200, pool=theirs, **names),
                1.3,
                rounds=81,
                unit="us",
            ),
            compare(
                "executor 64 submits + results",
                loop(batch, 5, pool=ours, **names),
                loop(batch, 5, pool=theirs, **names),
                1.3,
                unit="us",
            ),
        ]
        ours_round = loop(single, 200, pool=ours, **names)

        def within() -> float:
            with fail_after(60):
                return ours_round()

        theirs_round = loop(single, 200, pool=theirs, **names)
        figures.append(
            compare("  the same in a scope (no limit)", within, theirs_round, 99, unit="us")
        )
    return figures


def caches() -> list[Figure]:
    """A hit, against a dict's get under a lock."""
    cache: Cache[int, int] = Cache(100, ttl=3600)
    cache.put(1, 1)
    lock, entries = threading.Lock(), {1: 1}

    def plain_get(key: int) -> int | None:
        with lock:
            return entries.get(key)

    ours = loop("get(1, None)", get=cache.get_or_load)
    plain = loop("get(1)", get=plain_get)
    return [
        compare("cache hit", ours, plain, 3),
        compare("cache hit, 8 threads", in_threads(ours, 8), in_threads(plain, 8), 3, rounds=21),
    ]


def maps() -> list[Figure]:
    """A read, against a bare dict's and one under a lock."""
    entries = {n: n for n in range(100)}
    shared = CopyOnWriteMap(entries)
    ours = loop("shared[7]", shared=shared)
    return [
        compare("map read : bare dict", ours, loop("d[7]", d=entries), 4),
        compare(
            "map read : dict + Lock",
            ours,
            loop("\n  with lock: d[7]", d=entries, lock=threading.Lock()),
            1,
        ),
        compare("map get : dict.get", loop("m.get(7)", m=shared), loop("m.get(7)", m=entries), 4),
    ]


def wake(count: int, wait: Callable[[], object], release: Callable[[], object]) -> float:
    """Seconds from `release()` until the last of `count` waiting threads has woken."""
    ready = threading.Barrier(count + 1)
    woken: list[float] = []

    def waiter(context: Context) -> None:
        ready.wait()
        context.run(wait)
        woken.append(perf_counter())

    threads = [
        threading.Thread(target=waiter, args=(copy_context(),), daemon=True) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    ready.wait()
    sleep(0.1)  # let them block: the figure is about waking
    began = perf_counter()
    release()
    for thread in threads:
        thread.join()
    return max(woken) - began


def wake_by_cancel(count: int, *, scope_each: bool) -> float:
    """Threads that sleep in one scope, or each in a scope of its own below it."""

    def wait() -> None:
        try:
            if scope_each:
                with CancelScope():
                    scoped_sleep(3600)
            else:
                scoped_sleep(3600)
        except Cancelled:
            pass

    with CancelScope() as scope:
        return wake(count, wait, lambda: scope.cancel("wake up"))


def wake_by_locks(count: int) -> float:
    """Threads that each block on a raw lock."""
    locks = [threading.Lock() for _ in range(count)]
    for lock in locks:
        lock.acquire()
    numbers = iter(range(count))

    def release() -> None:
        for lock in locks:
            lock.release()

    return wake(count, lambda: locks[next(numbers)].acquire(), release)  # noqa: PLW0108 - drawn in each


def wakings() -> list[Figure]:
    """A thousand threads, cancelled against released."""
    plain = partial(wake_by_locks, 1000)
    return [
        compare(
            f"cancel wakes 1,000 threads, {text}",
            partial(wake_by_cancel, 1000, scope_each=scope_each),
            plain,
            2,
            rounds=7,
            unit="ms",
        )
        for text, scope_each in [("one scope", False), ("a scope each", True)]
    ]


def loads() -> list[Figure]:
    """A hundred threads that miss one key: how often the loader runs, how long it takes."""
    figures = []
    for text, fails in [("", False), (", failing", True)]:
        cache: Cache[str, int] = Cache(10)
        times = [_miss(cache, f"key {round_}", fails) for round_ in range(5)]
        count = cache.stats()["loads"] / 5
        figures.append(Figure(f"100 threads miss a key{text}: loads", count, 0, 1, ""))
        took = statistics.median(times) * 1e3
        figures.append(
            Figure(f"100 threads miss a key{text}: the last is answered", took, 100, 2, "ms")
        )
    return figures


def _miss(cache: Cache[str, int], key: str, fails: bool) -> float:
    go = threading.Barrier(101)
    answered: list[float] = []

    def load() -> int:
        sleep(0.1)
        if fails:
            raise LookupError(key)
        return 1

    def ask() -> None:
        go.wait()
        with suppress(LookupError), fail_after(60):
            cache.get_or_load(key, load)
        answered.append(perf_counter())

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    go.wait()
    began = perf_counter()
    for thread in threads:
        thread.join()
    return max(answered) - began


def invalidations() -> list[Figure]:
    """How long until another process of the service has forgotten a key, in milliseconds."""
    ours, theirs = multiprocessing.Pipe()
    with TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(
            target=_forget, args=(folder, theirs), daemon=True
        )
        process.start()
        peers = Peers(folder=lambda: Path(folder))
        peers.start()
        cache: Cache[int, int] = Cache(100, name="invalidations")
        ours.recv()
        seconds = []
        for key in range(50):
            began = monotonic()
            cache.invalidate(key)
            seconds.append(ours.recv() - began)
        process.join(5)
        peers.close()
    worst = sorted(seconds)[-2] * 1e3
    return [Figure("an invalidation reaches another worker: ms, p98", round(worst, 2), 0, 50, "")]


def _forget(folder: str, connection: Connection) -> None:
    peers = Peers(folder=lambda: Path(folder))
    cache: Cache[int, int] = Cache(100, name="invalidations")
    for key in range(50):
        cache.put(key, key)
    peers.start()
    peers.subscribe(lambda name, key: (apply_invalidation(name, key), connection.send(monotonic())))
    connection.send("ready")
    while len(cache):
        sleep(0.01)
    peers.close()


def leftovers() -> list[Figure]:
    """What 10,000 cancelled scopes leave behind."""
    bulkhead = Bulkhead("benchmark", 1, max_waiting=1)
    before = threading.active_count()
    for _ in range(10_000):
        with CancelScope(3600) as scope:
            scope.on_cancel(_nothing)
            with bulkhead:
                scope.cancel("over")
            with suppress(Cancelled):
                bulkhead.acquire()
    timers = timer.stats()["held"]
    stats = bulkhead.stats()
    sleep(2 * LINGER)
    return [
        Figure("10,000 cancelled scopes leave: timers", timers, 0, 0, ""),
        Figure("  permits", stats["inside"] + stats["waiting"], 0, 0, ""),
        Figure("  threads", max(0, threading.active_count() - before), 0, 0, ""),
    ]


def _nothing() -> None:
    pass


def print_table(figures: list[Figure]) -> None:
    """One line a figure."""
    print(f"{'figure':52}{'ours':>11}{'plain':>11}{'ratio':>8}{'limit':>7}  verdict")
    for figure in figures:
        if figure.unit:
            ours = f"{figure.ours:.2f} {figure.unit}"
            plain = f"{figure.plain:.2f} {figure.unit}"
            ratio = f"{figure.ratio:.2f}"
        else:
            ours, plain, ratio = f"{figure.ours:g}", "", ""
        line = f"{figure.name:52}{ours:>11}{plain:>11}{ratio:>8}{figure.limit:>7g}"
        print(f"{line}  {figure.verdict}")


def main() -> int:
    """Measure everything, print the table, say by the exit status whether the limits hold."""
    parts = (scopes, executors, caches, maps, wakings, loads, invalidations, leftovers)
    figures = [figure for part in parts for figure in part()]
    print_table(figures)
    close_shared_executor(timeout=5)
    return int(any(figure.verdict == "BROKEN" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
