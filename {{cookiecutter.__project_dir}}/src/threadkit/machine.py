"""What this process may use of the machine: processors and memory, the container's limits included.

Go's counterparts are GOMAXPROCS and automaxprocs: `os.cpu_count()` tells of the whole host, and a
container with two processors on a host of 64 would start 64 workers.

    machine = read()
    machine.cpus          # 1.5, of a quota; or the affinity's whole number
    machine.memory        # bytes, or None where nothing limits it
    workers_for(machine)  # how many worker processes that is

Limits come from control groups, version 1 and 2: a process's own group and all those above it,
of which the tightest holds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

LEAST: Final = 2
"""Workers where memory allows: with one, a restart or a crash would be an outage."""
PER_WORKER: Final = 128 * 1024 * 1024
"""Bytes that a worker may need. An empty service takes 50 MB; an owner's libraries and caches
take more."""
_MASTER: Final = 64 * 1024 * 1024

_NO_LIMIT: Final = 1 << 60
"""Version 1 has no word for "none" but a number near 2 ** 63."""


class Machine(NamedTuple):
    """Processors and memory, and where each number comes from."""

    cpus: float
    cpus_from: str
    memory: int | None
    memory_from: str


class Workers(NamedTuple):
    """How many worker processes, and why."""

    number: int
    reason: str


def read(root: Path = Path("/")) -> Machine:
    """Ask the system; `root` is where `proc` and `sys` are. Never fails: no limit is found."""
    affinity = _affinity()
    cpus, cpus_from = float(affinity), f"{affinity} in the affinity"
    quota = min(_quotas(root), default=math.inf)
    if quota < affinity:
        cpus, cpus_from = quota, f"a quota of {quota:g}, of {affinity} in the affinity"
    limits, physical = list(_memory_limits(root)), _physical_memory()
    memory = min(limits) if limits else None
    if memory is None or (physical is not None and physical < memory):
        return Machine(cpus, cpus_from, physical, "the machine's")
    return Machine(cpus, cpus_from, memory, "the control group's")


def workers_for(machine: Machine) -> Workers:
    """One a processor, two at least, and no more than memory has room for."""
    wanted = max(LEAST, math.ceil(machine.cpus))
    reason = f"one for each processor ({machine.cpus_from})"
    if wanted > math.ceil(machine.cpus):
        reason = f"{LEAST} at least; {machine.cpus_from}"
    if machine.memory is None:
        return Workers(wanted, reason)
    room = max(1, (machine.memory - _MASTER) // PER_WORKER)
    if room >= wanted:
        return Workers(wanted, reason)
    megabytes = machine.memory // 1_000_000
    return Workers(room, f"{megabytes} MB of memory ({machine.memory_from}) have room for {room}")


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _quotas(root: Path) -> Iterator[float]:
    """Processors that each group allows."""
    for folder in _folders(root, ""):
        limit, _, period = _text(folder / "cpu.max").partition(" ")
        if (micros := _number(limit)) is not None and (each := _number(period)):
            yield micros / each
    for folder in _folders(root, "cpu"):
        micros = _number(_text(folder / "cpu.cfs_quota_us"))
        each = _number(_text(folder / "cpu.cfs_period_us"))
        if micros is not None and micros > 0 and each:
            yield micros / each


def _memory_limits(root: Path) -> Iterator[int]:
    """Bytes that each group allows."""
    names = [(f, "memory.max") for f in _folders(root, "")]
    names += [(f, "memory.limit_in_bytes") for f in _folders(root, "memory")]
    for folder, name in names:
        limit = _number(_text(folder / name))
        if limit is not None and 0 < limit < _NO_LIMIT:
            yield limit


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """This process's group and those above it; "" is version 2, which has one tree for all.

    In a container the path may be the host's, of which only the end, or nothing, is mounted.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller not in controllers.split(","):
            continue
        for mount in _mounts(root, controllers):
            folder = mount / path.lstrip("/")
            while folder != mount:
                yield folder
                folder = folder.parent
            yield mount


def _mounts(root: Path, controllers: str) -> list[Path]:
    base = root / "sys/fs/cgroup"
    if not controllers:
        return [base, base / "unified"]
    # Often one of the controllers' names is a link to the folder of all of them.
    places = [base / controllers, *(base / name for name in controllers.split(","))]
    return list(dict.fromkeys(places))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
