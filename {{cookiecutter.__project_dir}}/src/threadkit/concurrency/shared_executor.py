"""The process's one executor that task groups and cache loads borrow threads from.

Go's counterpart is the scheduler itself, which has threads for every goroutine. It is made on
first use, so that nothing runs at import or before a fork; whoever starts the service may size it:

    configure_shared_executor(max_workers=16, queue_size=64)
    ...
    close_shared_executor(timeout=2.0)
"""

from __future__ import annotations

import os
import threading

from ._places import ShutdownReport
from .executor import BoundedExecutor

# Guards the three names below.
_lock = threading.Lock()
_executor: BoundedExecutor | None = None
_max_workers = min(32, (os.cpu_count() or 1) + 4)
_queue_size = 64


def configure_shared_executor(*, max_workers: int, queue_size: int) -> None:
    """Set the sizes. `RuntimeError` if it runs already with other sizes."""
    global _max_workers, _queue_size
    with _lock:
        if _executor is not None and (
            (_executor.max_workers, _executor.queue_size) != (max_workers, queue_size)
        ):
            raise RuntimeError(
                f"{_executor!r} is in use: configure it before its first use, or call "
                "close_shared_executor() first"
            )
        _max_workers, _queue_size = max_workers, queue_size


def shared_executor() -> BoundedExecutor:
    """The executor; made now if there is none."""
    global _executor
    executor = _executor
    if executor is None:
        with _lock:
            if _executor is None:
                _executor = BoundedExecutor(_max_workers, _queue_size, name="threadkit")
            executor = _executor
    return executor


def close_shared_executor(timeout: float | None = None) -> ShutdownReport:
    """Shut it down and report what did not end in `timeout` seconds; the next use makes one."""
    global _executor
    with _lock:
        executor, _executor = _executor, None
    return ShutdownReport((), ()) if executor is None else executor.shutdown(timeout=timeout)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
