"""Why a request is answered before, or instead of, the application; raised while it is read."""

from __future__ import annotations

from typing import Final


class Fault(Exception):
    """The answer to a request that cannot be served; after it the connection closes."""

    def __init__(self, status: int, detail: str, *, kind: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind


FULL: Final = Fault(503, "The service has too much to do.", kind="saturated")
EXPIRED: Final = Fault(503, "The request has waited too long for its turn.", kind="saturated")
SHED: Final = Fault(503, "The service has much to do, and this can wait.", kind="saturated")
CROWDED: Final = Fault(503, "Too many requests are being sent at once.", kind="saturated")
LATE_HEAD: Final = Fault(408, "The head of the request did not arrive in time.")
LATE_BODY: Final = Fault(408, "The body of the request did not arrive in time.")
TRUNCATED: Final = Fault(400, "The request ended before it was complete.")
FAILED: Final = Fault(500, "The service failed. Quote the request_id to its owners.")


def too_large(limit: int) -> Fault:
    """The body is larger than MAX_BODY_BYTES."""
    return Fault(413, f"The body is larger than {limit} bytes.", kind="content-too-large")
