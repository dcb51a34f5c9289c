"""What is wrong with a worker, from its numbers alone: the first thing that the console shows.

Each rule is a function of the document that ``/debug/vars`` answers and yields what it finds,
in words that say what to look at next. Pure, so that a test can hand it any document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

STUCK: Final = 1.0
"""Seconds beyond its time limit after which a request counts as stuck."""
LATE: Final = 0.02
"""Seconds of lateness (99th percentile of a minute) that requests begin to feel."""
PAUSE: Final = 0.1
"""Seconds of one garbage collection that requests begin to feel."""


class Finding(NamedTuple):
    """``severity`` is error (requests fail or hang), warning (they soon may) or notice.

    ``about`` is the same for what several workers find in the same place.
    """

    severity: str
    about: str
    text: str


def findings(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is wrong, the worst first. A rule that meets numbers it does not know is silent."""
    found: list[Finding] = []
    for rule in RULES:
        try:
            found.extend(rule(document))
        except (KeyError, TypeError, AttributeError):
            continue
    order = ("error", "warning", "notice")
    return [f._asdict() for f in sorted(found, key=lambda f: order.index(f.severity))]


def _readiness(document: Mapping[str, Any]) -> Iterator[Finding]:
    for check, reason in document["readiness"]["failures"].items():
        yield Finding("error", f"readiness {check}", f"Not ready, {check}: {reason}")


def _stuck(document: Mapping[str, Any]) -> Iterator[Finding]:
    over = [
        request
        for request in document["requests"]["list"]
        if request["left_seconds"] is not None and request["left_seconds"] < -STUCK
    ]
    if over:
        worst = min(over, key=lambda request: request["left_seconds"])
        yield Finding(
            "error",
            "requests",
            f"{_count(len(over), 'request')} past the time limit and still there, first "
            f"{worst['method']} {worst['route'] or worst['path']} for {worst['age_seconds']:.1f} s"
            f" at {worst['at']}: that code never looks at its scope.",
        )


def _bulkheads(document: Mapping[str, Any]) -> Iterator[Finding]:
    for name, stats in document["stats"]["tasks"].get("bulkhead", {}).items():
        inside, waiting = stats["inside"], stats["waiting"]
        if inside < stats["max_concurrent"]:
            continue
        about = f"bulkhead {name}"
        if waiting and waiting >= stats["max_waiting"]:
            yield Finding(
                "error", about, f"{name}: full, {inside} inside and {waiting} waiting: refusing."
            )
        elif waiting:
            yield Finding("warning", about, f"{name}: full, {inside} inside, {waiting} waiting.")


def _line(document: Mapping[str, Any]) -> Iterator[Finding]:
    line = document["stats"].get("line")
    if line and line["waiting"]:
        text = f"{line['running']} requests run and {line['waiting']} wait for a thread"
        if line["waiting"] >= line["most_waiting"]:
            yield Finding("error", "line", f"{text}: more are refused.")
        elif line["waiting"] * 2 >= line["most_waiting"]:
            yield Finding("warning", "line", f"{text}, {line['most_waiting']} at most.")


def _queues(document: Mapping[str, Any]) -> Iterator[Finding]:
    tasks = document["stats"]["tasks"]
    for kind, queued in (("executor", "queued"), ("background", "pending")):
        for name, stats in tasks.get(kind, {}).items():
            if stats["queue_size"] and stats[queued] >= stats["queue_size"]:
                text = f"{name}: the queue is full with {stats[queued]}, more is refused."
                yield Finding("error", f"{kind} {name}", text)
    for name, stats in tasks.get("background", {}).items():
        if stats["dropped"]:
            yield Finding("warning", f"dropped {name}", f"{name} dropped {stats['dropped']}.")


def _pools(document: Mapping[str, Any]) -> Iterator[Finding]:
    stats = document["stats"]["database"]
    for pool in ("read", "write"):
        used, size = stats[f"{pool}_in_use"], stats[f"{pool}_size"]
        waiting = stats.get(f"{pool}_waiting", 0)
        if size and used >= size:
            text = f"All {used} connections of the {pool} pool are in use, {waiting} wait."
            yield Finding("error" if waiting else "warning", f"pool {pool}", text)


def _caches(document: Mapping[str, Any]) -> Iterator[Finding]:
    for name, stats in document["stats"]["tasks"].get("cache", {}).items():
        if stats["load_failures"] and stats["load_failures"] * 2 > stats["loads"]:
            yield Finding(
                "warning",
                f"cache {name}",
                f"{name}: {stats['load_failures']} of {stats['loads']} loads failed.",
            )


def _pauses(document: Mapping[str, Any]) -> Iterator[Finding]:
    late = document["stats"]["pulse"]["p99"]
    if late is not None and late > LATE:
        yield Finding(
            "warning",
            "lateness",
            f"Threads get the interpreter up to {late * 1000:.0f} ms late: something computes, "
            "or the machine has too few cores. See /debug/pprof/profile.",
        )
    pause = document["stats"]["garbage"]["pause_seconds_max"]
    if pause > PAUSE:
        text = f"A garbage collection stopped everything for {pause * 1000:.0f} ms."
        yield Finding("warning", "garbage", text)


def _descriptors(document: Mapping[str, Any]) -> Iterator[Finding]:
    used, most = document["process"]["descriptors"], document["process"]["descriptors_max"]
    if used > 0.8 * most:
        yield Finding("warning", "descriptors", f"{used} of {most} file descriptors are in use.")


def _rooms(document: Mapping[str, Any]) -> Iterator[Finding]:
    for name, stats in document["stats"].items():
        if "error" in stats:
            yield Finding("warning", name, f"{name} cannot tell its numbers: {stats['error']}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


RULES: Final[tuple[Callable[[Mapping[str, Any]], Iterator[Finding]], ...]] = (
    _readiness,
    _stuck,
    _line,
    _bulkheads,
    _queues,
    _pools,
    _caches,
    _pauses,
    _descriptors,
    _rooms,
)
