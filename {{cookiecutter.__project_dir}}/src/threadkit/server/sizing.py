"""How large the service is made, and why: decided from the machine, logged in one line.

    workers 2: 2 at least; a quota of 1.5, of 8 in the affinity (WORKERS); threads 20 each: …

Every number can be set; what is set is said to be. gunicorn itself knows nothing of a container's
limits.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from threadkit import machine
from threadkit.machine import Machine
from threadkit.settings import Settings


def decision(settings: Settings, *, workers: int, threads: int, at: Machine) -> dict[str, str]:
    """What was decided, each with its reason: the fields of one log line.

    ``workers`` and ``threads`` are what gunicorn has in force; its own options go before all.
    """
    decided = machine.workers_for(at)
    reason = decided.reason
    if "workers" in settings.model_fields_set or workers != decided.number:
        reason = "as set"
    headroom = threads - settings.concurrency - settings.queue_size
    pool = settings.database_pool_size
    result = {
        "workers": f"{workers}: {reason}",
        "threads": f"{threads} a worker: {settings.concurrency} run, {settings.queue_size} wait, "
        f"{headroom} to spare",
        "pools": f"{pool} and {pool} connections a worker, to write and to read",
        "cpus": f"{at.cpus:g}: {at.cpus_from}",
    }
    if at.memory is not None:
        each = at.memory // workers // 1_000_000
        result["memory"] = f"{at.memory // 1_000_000} MB ({at.memory_from}), {each} a worker"
    if settings.cpu_affinity == "on":
        result["cpu_affinity"] = "one core for each worker"
    return result


def warning(workers: int, at: Machine) -> str | None:
    """Why these workers may be too many, where they may be."""
    if at.memory is None or at.memory // workers >= machine.PER_WORKER // 2:
        return None
    return (
        f"{workers} workers share {at.memory // 1_000_000} MB ({at.memory_from}), which is less "
        f"than {machine.PER_WORKER // 2_000_000} MB for each: lower WORKERS or raise the limit"
    )


def choose_core(worker: Any, siblings: list[Any]) -> None:
    """In the master, before the fork: the core that the fewest workers have."""
    if not hasattr(os, "sched_getaffinity"):
        return
    taken = Counter(getattr(sibling, "core", None) for sibling in siblings)
    worker.core = min(sorted(os.sched_getaffinity(0)), key=lambda core: taken[core])


def pin(worker: Any) -> None:
    """In the worker, while it has one thread: all that it starts stay on its core."""
    core: int | None = getattr(worker, "core", None)
    if core is not None:
        os.sched_setaffinity(0, {core})
