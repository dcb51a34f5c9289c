"""How much CPU time each thread of this process has used, by the kernel's own clocks."""

from __future__ import annotations

import time


def thread_cpu_ns(native_id: int | None) -> int | None:
    """Nanoseconds of CPU that a thread has used; None where it has ended or nobody knows.

    The clock's number is made from the thread's, as the C library does; asking the library
    itself (``pthread_getcpuclockid``) with a thread that has ended can crash the process.
    """
    if native_id is None:
        return None
    try:
        return time.clock_gettime_ns((~native_id << 3) | 6)
    except OSError:
        return None
