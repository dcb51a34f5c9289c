"""What log lines, traces and answers say about the request at hand.

Go passes this along in ``context.Context``; here it is two context variables. Both are
single variables on purpose (structlog's own binding makes one variable for every key):
whoever carries context to another thread has to name exactly these two.

    token = request_id.set(accepted_request_id(header) or new_request_id())
    with bound(tenant="acme"):
        log.info("charged")        # … "request_id": …, "tenant": "acme"
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final

REQUEST_ID_HEADER: Final = "X-Request-ID"

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that this thread works for; None outside a request."""

log_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default=MappingProxyType({}))
"""Fields that every log line gets; never changed in place, so it can be shared freely."""

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,128}")


def new_request_id() -> str:
    """A random id of 32 hexadecimal digits."""
    return secrets.token_hex(16)


def accepted_request_id(header: str | None) -> str | None:
    """The caller's id if it is well-formed, else None; it ends up in logs and headers."""
    if header is None or _WELL_FORMED.fullmatch(header) is None:
        return None
    return header


@contextmanager
def bound(**values: Any) -> Iterator[None]:
    """Add ``values`` to every log line of this context until the block ends."""
    token = log_context.set({**log_context.get(), **values})
    try:
        yield
    finally:
        log_context.reset(token)
