"""What profiles of a real gunicorn cost, and what they leave behind.

    python benchmarks/profiling.py            # a table; exit status 1 when a limit is broken
    python benchmarks/profiling.py idle throughput             # some of its experiments

Rounds with and without a profile alternate, and their medians are compared. The times have the
limits of a quiet machine. Whether profiles are true is for ``tests/end_to_end/test_profile.py``.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "src"))
sys.path.insert(0, str(PROJECT))

from tests.end_to_end.test_profile import at_rest, bystander, children, state  # noqa: E402
from tests.servers.processes import eventually, migrate  # noqa: E402
from tests.servers.profiled import Load  # noqa: E402
from tests.servers.service import Service  # noqa: E402

from threadkit.profiling.decode import decode  # noqa: E402
from threadkit.profiling.profile import Profile  # noqa: E402
from threadkit.runtime import RequestRecord  # noqa: E402

ROUNDS, SECONDS, ASKED, ABANDONED = 11, 2, 30, 200


@dataclass(frozen=True)
class Row:
    """One line of the table; without a limit it is only told."""

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def broken(self) -> bool:
        """Whether a limit of its is."""
        high = self.at_most is not None and self.value > self.at_most
        return high or (self.at_least is not None and self.value < self.at_least)

    def __str__(self) -> str:
        limit = "told" if self.at_most is None else f"at most {self.at_most:g}"
        limit = limit if self.at_least is None else f"at least {self.at_least:g}"
        verdict = "BROKEN" if self.broken else "" if limit == "told" else "ok"
        return f"{self.what:<58} {self.value:>9.2f} {self.unit:<3} {limit:<14} {verdict}"


@contextmanager
def serving(folder: Path, **environ: str) -> Iterator[Service]:
    """The workload of the tests, stopped in the end."""
    folder.mkdir(parents=True)
    url = f"sqlite:///{folder}/items.db"
    migrate(url)
    settings = {
        "DATABASE_URL": url,
        "WORKERS": "1",
        "LOG_LEVEL": "INFO",
        "PYTHONPATH": str(PROJECT / "tests/servers"),
        **environ,
    }
    service = Service(folder / "service", settings, ("-c", "gunicorn.conf.py", "workload:app"))
    try:
        yield service.wait_until_ready()
    finally:
        service.stop()


def profile(service: Service, query: str) -> Profile:
    """One, decoded."""
    answer = service.ask("GET", f"/debug/pprof/{query}", admin=True)
    assert answer.status == 200, answer.data
    return decode(answer.data)


def milliseconds(do: Callable[[], object]) -> float:
    began = time.monotonic()
    do()
    return 1000 * (time.monotonic() - began)


def worst(service: Service, path: str) -> tuple[float, float]:
    """Median and longest of several answers of the admin address, in milliseconds."""

    def ask() -> None:
        assert service.ask("GET", path, admin=True).status == 200

    took = [milliseconds(ask) for _ in range(ASKED)]
    return statistics.median(took), max(took)


def throughput(folder: Path) -> Iterator[Row]:
    """Answers a second, with and without a profile at 100 Hz."""
    with serving(folder) as service, Load(service.url, ["/burst"]) as load:

        def rate(do: Callable[[], object]) -> float:
            before, began = load.answers, time.monotonic()
            do()
            return (load.answers - before) / (time.monotonic() - began)

        def profiled() -> float:
            return rate(lambda: profile(service, f"profile?seconds={SECONDS}&hz=100"))

        def plain() -> float:
            return rate(lambda: threading.Event().wait(SECONDS))

        plain(), profiled()
        pairs = [(profiled(), plain()) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    yield Row("answers a second, without a profile", theirs)
    yield Row("answers a second, with one at 100 Hz", ours)
    ratio = statistics.median(a / b for a, b in pairs)
    yield Row("with a profile to without, median of the rounds", ratio, at_least=0.95)


def idle(folder: Path) -> Iterator[Row]:
    """What there is for the labels of a request while nobody looks, and what else runs."""
    times = 20_000

    def round_of(store: bool) -> float:
        record = RequestRecord("id", "GET", "/x")
        identify = threading.get_ident
        began = time.perf_counter()
        if store:
            for _ in range(times):
                record.thread_id = identify()
                record.route = "/x"
        else:
            for _ in range(times):
                pass
        return (time.perf_counter() - began) / times * 1e6

    pairs = [(round_of(True), round_of(False)) for _ in range(41)]
    cost = statistics.median(a - b for a, b in pairs)
    yield Row("labels of a request, while nobody looks", cost, "us", at_most=0.3)
    with serving(folder) as service:
        with Load(service.url, ["/burst"]) as load:
            eventually(lambda: load.answers > 100, what="it works")
        found = state(service)
        names = [n for n in found["threads"] if n.startswith("admin-") or "profil" in n]
        yield Row(
            "threads and children of a profiler at rest",
            len(names) + len(children(found["pid"])),
            at_most=0,
        )
        yield Row("tracemalloc at rest", int(found["tracemalloc"]), at_most=0)


def stuck(folder: Path) -> Iterator[Row]:
    """Every request thread waits, or computes, and the queue is full."""
    limits = {"CONCURRENCY": "4", "QUEUE_SIZE": "4", "REQUEST_TIMEOUT": "60", "QUEUE_TIMEOUT": "50"}
    for path, how, limit in (("/stuck", "stuck", 250.0), ("/compute", "computing", None)):
        with (
            serving(folder / how, **limits, WATCHDOG_GRACE="60") as service,
            Load(service.url, [path], clients=8),
        ):

            def busy(service: Service = service, path: str = path) -> bool:
                text = service.ask("GET", "/debug/pprof/goroutine?debug=2", admin=True).data
                return text.count(b"GET " + path.encode()) >= 4

            eventually(busy, what=f"every thread is {how}")
            for name in ("/debug/pprof/goroutine", "/debug/", "/debug/vars", "/metrics", "/livez"):
                median, longest = worst(service, name)
                yield Row(f"every thread {how}: {name}, median", median, "ms", at_most=limit)
                yield Row(
                    f"every thread {how}: {name}, longest of {ASKED}", longest, "ms", at_most=limit
                )


def all_workers(folder: Path) -> Iterator[Row]:
    """``pid=all`` while one of four is killed, and a second profile beside the first."""
    with serving(folder, WORKERS="4") as service, ThreadPoolExecutor(1) as clients:
        pids = service.pids()
        began = time.monotonic()
        asked = clients.submit(profile, service, f"wall?seconds={SECONDS}&hz=20&pid=all")
        victim: int = eventually(lambda: bystander(service, pids) or 0, what="a bystander")
        os.kill(victim, signal.SIGKILL)
        seen = asked.result(30)
        yield Row(
            f"pid=all of {SECONDS} s over 4 workers, one killed: answered after",
            time.monotonic() - began,
            "s",
            at_most=SECONDS + 2,
        )
        workers = {dict(tags)["pid"] for _, tags in seen.samples}
        yield Row("workers in it", len(workers), at_least=3)
    with serving(folder / "one") as service, ThreadPoolExecutor(1) as clients:
        first = clients.submit(service.ask, "GET", "/debug/pprof/profile?seconds=4", admin=True)
        eventually(lambda: children(state(service)["pid"]), what="py-spy runs")
        took = []
        while not first.done() and len(took) < ASKED:
            began = time.monotonic()
            status = service.ask("GET", "/debug/pprof/profile?seconds=4", admin=True).status
            took.append(1000 * (time.monotonic() - began))
            assert status == 500 or first.done(), status
        assert first.result(30).status == 200
        yield Row(
            f"a second profile is refused, longest of {len(took)}", max(took), "ms", at_most=100
        )


def abandoned(folder: Path) -> Iterator[Row]:
    """Clients that start a profile and leave."""
    kinds = ("profile", "wall", "block", "heap", "trace")
    with serving(folder) as service:
        before = at_rest(service)
        pid = before["pid"]
        threads = len(os.listdir(f"/proc/{pid}/task"))
        begun = refused = 0
        while begun < ABANDONED:
            with socket.create_connection(("127.0.0.1", service.admin_port), 10) as client:
                target = f"/debug/pprof/{kinds[begun % len(kinds)]}?seconds=30"
                client.sendall(f"GET {target} HTTP/1.0\r\n\r\n".encode())
                client.settimeout((0.1, 0.15, 0.2, 0.4)[begun % 4])
                try:
                    client.recv(1)
                    refused += 1  # the one before is just ending
                except TimeoutError:
                    begun += 1

        def settled() -> bool:
            now = state(service)
            same = ("switch_interval", "tracemalloc", "descriptors")
            exchanges = [name for name in now["threads"] if name.startswith("admin-")]
            return not exchanges and all(now[key] == before[key] for key in same)

        try:
            eventually(settled, what="everything is as it was", seconds=30)
        except TimeoutError:
            pass  # the rows say what is not
        after = state(service)
        yield Row("profiles that ran when their client left", begun, at_least=ABANDONED)
        yield Row("refused in between, while the one before was ending", refused)
        yield Row("children left", len(children(pid)), at_most=0)
        more = len(os.listdir(f"/proc/{pid}/task")) - threads
        yield Row("threads more than before", more, at_most=0)
        more = after["descriptors"] - before["descriptors"]
        yield Row("descriptors more than before", more, at_most=0)
        changed = after["switch_interval"] != before["switch_interval"]
        yield Row(
            "switch interval changed, tracemalloc on", changed + after["tracemalloc"], at_most=0
        )


EXPERIMENTS = {each.__name__: each for each in (idle, stuck, all_workers, abandoned, throughput)}


def main(names: Sequence[str]) -> int:
    """Run those that are named, or all, and judge."""
    rows = []
    with TemporaryDirectory() as temporary:
        for name in names or EXPERIMENTS:
            for row in EXPERIMENTS[name](Path(temporary) / name):
                rows.append(row)
                print(row, flush=True)
    return int(any(row.broken for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
