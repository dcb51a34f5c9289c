"""The threads that answer requests: so many at most, each made when it is first needed.

The one that became free last is given work first, so that few threads are warm and the
others sleep. They are daemons: a handler that is stuck for ever must not keep its process;
``close`` joins all that can be joined.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Generic, TypeVar

Job = TypeVar("Job")


class _Thread(Generic[Job]):
    __slots__ = ("job", "thread", "wake")

    def __init__(self, job: Job) -> None:
        self.job: Job | None = job
        # Held while there is nothing to do; released by who brings a job.
        self.wake = threading.Lock()
        self.wake.acquire()
        self.thread: threading.Thread | None = None


class Threads(Generic[Job]):
    """At most ``most`` threads that call ``work`` with each job. Thread-safe."""

    def __init__(self, most: int, work: Callable[[Job], None], name: str = "request") -> None:
        self._most = most
        self._work = work
        self._name = name
        # Guards all below it.
        self._lock = threading.Lock()
        self._threads: list[_Thread[Job]] = []
        self._free: list[_Thread[Job]] = []
        self._jobs: deque[Job] = deque()
        self._closed = False

    def __repr__(self) -> str:
        busy = len(self._threads) - len(self._free)
        return f"<Threads {self._name!r}: {busy} of {self._most} busy, {len(self._jobs)} waiting>"

    def give(self, job: Job) -> None:
        """Have a thread do it, the next one that is free if none is now."""
        with self._lock:
            if self._free:
                thread = self._free.pop()
            elif len(self._threads) < self._most:
                self._start(job)
                return
            else:
                self._jobs.append(job)
                return
        thread.job = job
        thread.wake.release()

    def waiting(self) -> int:
        """Jobs for which no thread is free."""
        return len(self._jobs)

    def close(self, seconds: float) -> list[str]:
        """Let every thread end after its job; the names of those that have not ended in time."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for idle in free:
            idle.wake.release()
        until = time.monotonic() + seconds
        threads = [t.thread for t in self._threads if t.thread is not None]
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        return [thread.name for thread in threads if thread.is_alive()]

    def _start(self, job: Job) -> None:
        # Under _lock. An empty context: a thread must not inherit whatever is set here.
        new = _Thread(job)
        number = len(self._threads) + 1
        new.thread = threading.Thread(
            target=Context().run,
            args=(self._run, new),
            name=f"{self._name}-{number}",
            daemon=True,
        )
        self._threads.append(new)
        new.thread.start()

    def _run(self, me: _Thread[Job]) -> None:
        while True:
            job, me.job = me.job, None
            while job is not None:
                self._work(job)
                with self._lock:
                    job = self._jobs.popleft() if self._jobs else None
                    if job is None:
                        if self._closed:
                            return
                        self._free.append(me)
            me.wake.acquire()
            if me.job is None:
                return
