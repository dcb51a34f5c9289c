"""``/v1/items``: the example resource."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from threadkit import deadline
from threadkit.web import (
    WHOLE,
    Accepted,
    Answer,
    Blueprint,
    Created,
    Payload,
    Preconditions,
    absent,
)

from ..services import items
from ..services.items import ItemPage, ItemView, Overview

blueprint = Blueprint("items", __name__, url_prefix="/v1/items")

# No control characters: PostgreSQL stores no NUL, and nobody wants the others in a name.
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
PriceCents = Annotated[int, Field(ge=0, le=2**63 - 1), WHOLE]


class NewItem(Payload):
    """What a caller sends to create an item."""

    name: Name
    price_cents: PriceCents


class ItemPatch(Payload):
    """The fields to change; those that are absent stay as they are."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: Name = absent()
    price_cents: PriceCents = absent()

    @model_validator(mode="after")
    def _changes_something(self) -> ItemPatch:
        if not self.model_fields_set:
            msg = "name at least one field to change: name, price_cents"
            raise ValueError(msg)
        return self


class Appraisal(BaseModel):
    """What has been accepted."""

    item_id: int


class PageQuery(Payload):
    """Which part of the list."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


@blueprint.get("")
def list_items(query: PageQuery) -> ItemPage:
    """List items in the order of their ids.

    ``next`` is the ``after`` of the following page, or null on the last one.
    """
    return items.page(after=query.after, limit=query.limit)


@blueprint.post("")
def create_item(body: NewItem) -> Created[ItemView]:
    """Create an item."""
    item = items.create(body.name, body.price_cents)
    return Created(item, location=f"{blueprint.url_prefix}/{item.id}", etag=item.etag)


@blueprint.get("/<int:item_id>")
def get_item(item_id: int) -> Answer[ItemView]:
    """Read an item."""
    item = items.get(item_id)
    return Answer(item, etag=item.etag)


@blueprint.patch("/<int:item_id>", problems=(412,))
def update_item(item_id: int, body: ItemPatch, headers: Preconditions) -> Answer[ItemView]:
    """Change some fields of an item; with If-Match only the version that the caller knows."""
    changes = body.model_dump(exclude_unset=True)
    item = items.update(item_id, changes, accepts=headers.accepts)
    return Answer(item, etag=item.etag)


@blueprint.delete("/<int:item_id>", problems=(412,))
def delete_item(item_id: int, headers: Preconditions) -> None:
    """Delete an item; with If-Match only the version that the caller knows."""
    items.delete(item_id, accepts=headers.accepts)


@blueprint.get("/<int:item_id>/overview")
@deadline(1.5)
def get_overview(item_id: int) -> Overview:
    """Read an item together with what belongs to it."""
    return items.overview(item_id)


@blueprint.post("/<int:item_id>/appraisal")
def post_appraisal(item_id: int) -> Accepted[Appraisal]:
    """Have an item's price set by those of its like; the work goes on after the answer."""
    items.request_appraisal(item_id)
    return Accepted(Appraisal(item_id=item_id))
