"""How an invalidation reaches the service's other workers, known here only as a shape.

Go has one process where Python's servers have several, so Go needs no counterpart. Whoever wires
the service attaches a bus; until then an invalidation stays in its process:

    attach_invalidation_bus(bus)     # bus.publish(...) tells the others
    apply_invalidation(name, key)    # what the bus calls when another worker told it something
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Protocol, cast

from .keys import decode_key, encode_key
from .registry import Named, named

_logger = logging.getLogger(__name__)


class InvalidationBus(Protocol):
    """Carries invalidations to the other workers. Both methods must return quickly.

    `cache` is the cache's name; `key` is text made by `encode_key`, or None for "everything".
    """

    def publish(self, cache: str, key: str | None) -> None:
        """Tell every other worker, in the order of the calls."""

    def subscribe(self, listener: Callable[[str, str | None], None]) -> None:
        """Call `listener(cache, key)` for what other workers publish, from any thread."""


class Invalidatable(Named, Protocol):
    """The side of a cache that the bus sees."""

    def invalidate_locally(self, key: Hashable) -> None: ...

    def clear_locally(self) -> None: ...


# Replaced as a whole and never changed in place, so it needs no lock.
_bus: InvalidationBus | None = None


def attach_invalidation_bus(bus: InvalidationBus | None) -> None:
    """Publish invalidations on this bus from now on, and listen to it; None detaches."""
    global _bus
    _bus = bus
    if bus is not None:
        bus.subscribe(apply_invalidation)


def publish_invalidation(cache: str, key: Hashable = None, *, everything: bool = False) -> None:
    """Tell the other workers. A bus that fails is logged: this worker is done already."""
    bus = _bus
    if bus is None:
        return
    text: str | None = None
    if not everything:
        try:
            text = encode_key(key)
        except TypeError as error:
            # Too much is forgotten elsewhere, which is slow once; too little would be wrong.
            _logger.info("cache %s is cleared in the other workers: %s", cache, error)
    try:
        bus.publish(cache, text)
    except Exception:
        _logger.exception("the invalidation of cache %s did not reach the other workers", cache)


def apply_invalidation(cache: str, key: str | None) -> None:
    """Do here what another worker did: forget one key of the caches of that name, or all."""
    for member in named("cache"):
        if member.name == cache:
            target = cast(Invalidatable, member)
            if key is None:
                target.clear_locally()
            else:
                target.invalidate_locally(decode_key(key))
