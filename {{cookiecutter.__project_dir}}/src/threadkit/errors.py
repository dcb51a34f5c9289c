"""Errors that a service raises and the edge answers, without any HTTP library.

A handler or a use case raises one of these; the web room turns it into an RFC 9457
problem. Anything that is not in this tree (nor a ``Cancelled`` or ``Saturated`` of the
concurrency room) is a bug and answers 500 without internals.

    raise NotFound("item", item_id)
"""

from __future__ import annotations

from typing import Any, ClassVar


class ServiceError(Exception):
    """A failure with a meaning for the caller.

    ``detail`` is shown to the caller: never put internals into it. ``extra`` becomes
    further members of the problem document.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    @property
    def retry_after(self) -> int | None:
        """Seconds after which a retry makes sense; None where it never does."""
        return None


class BadRequest(ServiceError):
    """The request cannot be read: its syntax is wrong, whatever it was meant to say."""

    status = 400
    title = "Bad Request"


class NotFound(ServiceError):
    """The named thing does not exist."""

    status = 404
    title = "Not Found"

    def __init__(self, kind: str, key: object) -> None:
        super().__init__(f"There is no {kind} {key}.")
        self.kind = kind
        self.key = key


class RequestTimeout(ServiceError):
    """The client did not send all of the request in ``BODY_TIMEOUT``."""

    status = 408
    title = "Request Timeout"


class Conflict(ServiceError):
    """The request contradicts the present state, and repeating it will not help."""

    status = 409
    title = "Conflict"


class PreconditionFailed(ServiceError):
    """An ``If-Match`` names another version than the present one (RFC 9110, 13.1.1)."""

    status = 412
    title = "Precondition Failed"


class ContentTooLarge(ServiceError):
    """The body is larger than ``MAX_BODY_BYTES``."""

    status = 413
    title = "Content Too Large"


class UnsupportedMediaType(ServiceError):
    """The body is not of a type that this route reads."""

    status = 415
    title = "Unsupported Media Type"


class Invalid(ServiceError):
    """The request is well-formed and its values are not acceptable.

    ``errors`` lists every fault: ``{"location": ["body", "name"], "message": …}``.
    """

    status = 422
    title = "Unprocessable Content"

    def __init__(self, detail: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(detail, errors=errors)
        self.errors = errors


class Unavailable(ServiceError):
    """Something that the request needs is away or full; the same request may succeed soon."""

    status = 503
    title = "Service Unavailable"

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self._retry_after = retry_after

    @property
    def retry_after(self) -> int:
        """Seconds, for ``Retry-After``."""
        return self._retry_after
