"""Which protections are off where not all of them can be had, said in one line at the start.

    {"event": "some protections are off", "WORKER_CLASS=gthread": ["slow clients hold threads …

A developer's laptop runs without some of them; a service in production should not, unnoticed.
"""

from __future__ import annotations

import sys
from typing import Final

from threadkit.settings import KIT_WORKER

_OF_THE_WORKER: Final = (
    "slow clients hold threads (HEADER_TIMEOUT, BODY_TIMEOUT and WRITE_TIMEOUT have no effect)",
    "overload is refused by threads and not before them",
    "requests whose length can be read in two ways are left to gunicorn's parser",
    "malformed requests are answered by gunicorn (HTML, no request id) and are not in the metrics",
    "a stop does not go on accepting (DRAIN_DELAY), and resets who waits in the backlog",
)
_OF_LINUX: Final = (
    "clients that leave are not noticed",
    "the time that a request waited in the backlog is not known",
    "a container's processors and memory are not read",
    "CPU_AFFINITY has no effect",
)


def missing(worker_class: str, platform: str = sys.platform) -> dict[str, list[str]]:
    """What is off, by its cause; nothing where all is in force."""
    causes: dict[str, list[str]] = {}
    if worker_class != KIT_WORKER:
        causes[f"WORKER_CLASS={worker_class}"] = list(_OF_THE_WORKER)
    if platform != "linux":
        causes[f"this is {platform} and not Linux"] = list(_OF_LINUX)
    return causes
