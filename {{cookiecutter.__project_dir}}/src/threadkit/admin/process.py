"""What the kernel knows of this process: memory, threads, descriptors, CPU."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

_PAGE: Final = resource.getpagesize()
_PROC: Final = Path("/proc/self")


def facts() -> dict[str, Any]:
    """Sizes in bytes, times in seconds; None where this system does not tell."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # ru_maxrss counts kilobytes on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "rss_bytes": _resident(),
        "rss_peak_bytes": usage.ru_maxrss * unit,
        "cpu_seconds": round(time.process_time(), 3),
        "threads": _count("task"),
        "descriptors": _count("fd"),
        "descriptors_max": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "switches_involuntary": usage.ru_nivcsw,
        "page_faults_major": usage.ru_majflt,
    }


def _resident() -> int | None:
    try:
        return int((_PROC / "statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def _count(folder: str) -> int | None:
    try:
        return len(os.listdir(_PROC / folder))
    except OSError:
        return None
