"""Bases for what handlers read."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from werkzeug.http import parse_etags


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For ``Annotated[int, Field(…), WHOLE]``: an integer as JSON Schema understands it, where 5.0
is one and "5" and true are none. It stands last, or the schema loses the bounds."""


class Payload(BaseModel):
    """A body or query as a caller must send it: no unknown fields, no silent conversions.

    Strictness is JSON's own: a date is a string and ``"5"`` is no number. In a query, where
    everything is text, numbers are read from it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


def absent() -> Any:
    """The default of a field that a caller may leave out, and that is then not set at all.

    ``model_dump(exclude_unset=True)`` gives those that were sent. In the OpenAPI document such
    a field is optional, without a default, and null is no value for it.
    """
    return Field(default=None, json_schema_extra=_without_default)


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class Preconditions(BaseModel):
    """``headers`` of a handler that changes something (RFC 9110, section 13.1.1)."""

    if_match: str | None = Field(
        default=None, alias="If-Match", description="Change only this version, named by its ETag."
    )

    def accepts(self, etag: str) -> bool:
        """Whether the caller wants the version ``etag`` changed; weak tags never match."""
        if self.if_match is None:
            return True
        tags = parse_etags(self.if_match)
        return tags.star_tag or tags.is_strong(etag)
