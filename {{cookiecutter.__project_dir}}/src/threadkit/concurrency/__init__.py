"""Go's concurrency for Python threads: scopes, groups, bounds, flights and caches.

Standard library and cachebox only; it knows nothing of the web. Everything works without a
service around it: outside any scope there is simply no deadline.

    with fail_after(1.5), TaskGroup(limit=3) as group:
        price = group.start(price_of, item_id)
        stock = group.start(stock_of, item_id)
"""

from __future__ import annotations

from ._places import ShutdownReport
from .background import Background, DrainReport, background
from .bulkhead import Bulkhead
from .bus import InvalidationBus, apply_invalidation, attach_invalidation_bus
from .cache import Cache
from .cached import CachedFunction, cached
from .cancel_scope import CancelScope, live_scopes
from .errors import (
    Cancelled,
    Closed,
    DeadlineExceeded,
    ExpiredInLine,
    Saturated,
    WaitedInVain,
)
from .executor import BoundedExecutor
from .group import TaskGroup
from .maps import CopyOnWriteMap
from .pool import ObjectPool
from .propagation import fresh_context, register_context_variable
from .registry import named
from .scope import (
    checkpoint,
    current_scope,
    fail_after,
    move_on_after,
    remaining,
    shield,
    sleep,
)
from .shared_executor import (
    close_shared_executor,
    configure_shared_executor,
    shared_executor,
)
from .shared_tier import Codec, SharedTier, attach_shared_tier
from .singleflight import SingleFlight

__all__ = [
    "Background",
    "BoundedExecutor",
    "Bulkhead",
    "Cache",
    "CachedFunction",
    "CancelScope",
    "Cancelled",
    "Closed",
    "Codec",
    "CopyOnWriteMap",
    "DeadlineExceeded",
    "DrainReport",
    "ExpiredInLine",
    "InvalidationBus",
    "ObjectPool",
    "Saturated",
    "SharedTier",
    "ShutdownReport",
    "SingleFlight",
    "TaskGroup",
    "WaitedInVain",
    "apply_invalidation",
    "attach_invalidation_bus",
    "attach_shared_tier",
    "background",
    "cached",
    "checkpoint",
    "close_shared_executor",
    "configure_shared_executor",
    "current_scope",
    "fail_after",
    "fresh_context",
    "live_scopes",
    "move_on_after",
    "named",
    "register_context_variable",
    "remaining",
    "shared_executor",
    "shield",
    "sleep",
]
