"""Bases for what handlers read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from werkzeug.http import parse_etags


class Payload(BaseModel):
    """A body or query as a caller must send it: no unknown fields, no silent conversions.

    Strictness is JSON's own: a date is a string and ``"5"`` is no number. In a query, where
    everything is text, numbers are read from it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


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
