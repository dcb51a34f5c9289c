"""How the service runs: the kit. The same in every service; an update replaces it.

The names that an owner uses stand here. Importing them starts nothing and reads nothing.
"""

from threadkit.concurrency import (
    BoundedExecutor,
    Bulkhead,
    Cache,
    Cancelled,
    CancelScope,
    CopyOnWriteMap,
    DeadlineExceeded,
    ObjectPool,
    Saturated,
    SingleFlight,
    TaskGroup,
    background,
    cached,
    checkpoint,
    fail_after,
    move_on_after,
    remaining,
    shield,
    sleep,
)
from threadkit.errors import (
    BadRequest,
    Conflict,
    Invalid,
    NotFound,
    PreconditionFailed,
    ServiceError,
    Unavailable,
)
from threadkit.limits import deadline, sheddable
from threadkit.settings import Settings

__all__ = [
    "BadRequest",
    "BoundedExecutor",
    "Bulkhead",
    "Cache",
    "CancelScope",
    "Cancelled",
    "Conflict",
    "CopyOnWriteMap",
    "DeadlineExceeded",
    "Invalid",
    "NotFound",
    "ObjectPool",
    "PreconditionFailed",
    "Saturated",
    "ServiceError",
    "Settings",
    "SingleFlight",
    "TaskGroup",
    "Unavailable",
    "background",
    "cached",
    "checkpoint",
    "deadline",
    "fail_after",
    "move_on_after",
    "remaining",
    "sheddable",
    "shield",
    "sleep",
]
