"""The threads beside the requests': task groups', background work's, and their end.

Sizes come from the settings when a worker starts. When it stops, background work may finish
for a while, is then cancelled, and what was dropped is named in the log.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, cast

from threadkit.concurrency import (
    Cache,
    background,
    close_shared_executor,
    configure_shared_executor,
    named,
)
from threadkit.concurrency.registry import kinds
from threadkit.ladder import BACKGROUND_DRAIN
from threadkit.settings import Settings

log = logging.getLogger(__name__)

_EXECUTOR_GRACE = 1.0
"""Seconds for tasks that nobody waits for any more to notice that they are cancelled."""


class Tasks:
    """A ``Resource``: sizes the process's executor and ``background``, and drains both."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start(self) -> None:
        """Apply the sizes; threads start with the first task."""
        threads, queue = self._settings.executor_threads, self._settings.executor_queue_size
        try:
            configure_shared_executor(max_workers=threads, queue_size=queue)
            background.configure(max_workers=threads, queue_size=queue)
        except RuntimeError as error:
            # A script used them before it built its app: they work, in another size.
            log.warning("EXECUTOR_THREADS and EXECUTOR_QUEUE_SIZE have no effect: %s", error)

    def abandon(self) -> None:
        """Nothing: the concurrency room starts afresh in a forked child by itself."""

    def close(self) -> None:
        """Finish what was accepted, as far as time allows; then open again for scripts."""
        report = background.drain(BACKGROUND_DRAIN)
        if report.accepted:
            log.info("background drained: %d of %d finished", report.finished, report.accepted)
        for cache in named("cache"):
            # What was loaded for this app means nothing to another one in this process.
            cast(Cache[Any, Any], cache).clear_locally()
        left = close_shared_executor(timeout=_EXECUTOR_GRACE)
        if left.left:
            log.warning("still running: %s", ", ".join(left.left))
        with contextlib.suppress(RuntimeError):  # something is still running: it stays closed
            background.configure()

    def stats(self) -> Mapping[str, Any]:
        """Numbers of all named objects: executors, bulkheads, caches, background."""
        return {kind: {item.name: item.stats() for item in named(kind)} for kind in kinds()}
