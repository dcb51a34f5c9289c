"""What a handler returns when a bare model does not say it all.

    return Created(view, location=f"/v1/items/{view.id}", etag=view.etag)

A handler that returns a model answers 200, one that returns None 204. The OpenAPI document
is made from the same annotations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

Body_co = TypeVar("Body_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Headers:
    etag: str | None = None
    """Version of the representation; a GET whose If-None-Match has it answers 304."""
    location: str | None = None
    """Where the thing is, as a path."""


@dataclass(frozen=True, slots=True)
class Answer(_Headers, Generic[Body_co]):
    """200 with headers."""

    status: ClassVar[int] = 200
    headers: ClassVar[tuple[str, ...]] = ("ETag",)

    body: Body_co


@dataclass(frozen=True, slots=True)
class Created(Answer[Body_co]):
    """201: there is something new at ``location``."""

    status: ClassVar[int] = 201
    headers: ClassVar[tuple[str, ...]] = ("Location", "ETag")


@dataclass(frozen=True, slots=True)
class Accepted(Answer[Body_co]):
    """202: the work goes on in the background."""

    status: ClassVar[int] = 202
    headers: ClassVar[tuple[str, ...]] = ()
