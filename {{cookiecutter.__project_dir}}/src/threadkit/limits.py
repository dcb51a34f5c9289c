"""``@deadline``: how long a route may take, where it is not the usual REQUEST_TIMEOUT.

    @items.get("/<int:item_id>/overview")
    @deadline(1.5)
    def overview(item_id: int) -> Overview: ...

    @items.get("/suggestions")
    @sheddable                    # refused first, so that there is room for what matters
    def suggestions() -> Suggestions: ...

They only mark the handler: the web room opens the scope when a request takes the route, and
admission refuses what is marked while the line is half full.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

Handler = TypeVar("Handler", bound=Callable[..., Any])

HEALTH: Final = frozenset({"/livez", "/readyz"})
"""Paths of the probes: they never stand in line, and are answered however late they come."""

SHEDS_AT: Final = 0.5
"""How full the line is, 0 to 1, when routes that are ``@sheddable`` are refused."""

_MARK: Final = "__deadline__"
_SHEDDABLE: Final = "__sheddable__"

ROUTED: Final = "__routed__"
"""Set on a handler when a route has taken it; a mark that comes later would reach nobody."""


def deadline(seconds: float | None) -> Callable[[Handler], Handler]:
    """Give a handler ``seconds``, of MAX_REQUEST_TIMEOUT at the most; write it below the route.

    None is for streams and long downloads: no limit but the caller's own.
    """
    if seconds is not None and not (0 < seconds < math.inf):
        msg = (
            f"@deadline({seconds!r}): give the seconds that the route may take, more than 0, "
            "or None for a stream without a limit"
        )
        raise ValueError(msg)

    def mark(handler: Handler) -> Handler:
        _check_place(handler, "@deadline")
        setattr(handler, _MARK, seconds)
        return handler

    return mark


def sheddable(handler: Handler) -> Handler:
    """Have a route refused as soon as the line is half full; write it below the route."""
    _check_place(handler, "@sheddable")
    setattr(handler, _SHEDDABLE, True)
    return handler


def is_sheddable(handler: Callable[..., Any]) -> bool:
    """Whether ``@sheddable`` marks it."""
    return getattr(handler, _SHEDDABLE, False)


def _check_place(handler: Handler, mark: str) -> None:
    if hasattr(handler, ROUTED):
        msg = (
            f"{mark} stands above the route of {handler.__name__}, where it has "
            "no effect: write it below, next to the function"
        )
        raise TypeError(msg)


def time_limit(handler: Callable[..., Any], *, usual: float, most: float) -> float | None:
    """Seconds that a request may spend in ``handler``; None for no limit."""
    seconds: float | None = getattr(handler, _MARK, usual)
    return None if seconds is None else min(seconds, most)
