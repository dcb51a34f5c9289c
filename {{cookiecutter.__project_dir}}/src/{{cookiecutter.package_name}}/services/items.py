"""Items: the example's use cases. No Flask, no threads, no time-outs passed by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from threadkit import (
    NotFound,
    PreconditionFailed,
    TaskGroup,
    background,
    cached,
    move_on_after,
)
from threadkit.clients import BadAnswer, Client, UpstreamAway
from threadkit.database import read, transaction

from ..models.items import Item

log = logging.getLogger(__name__)

prices = Client(name="prices", base_url_setting="PRICES_URL", max_connections=20)


class ItemView(BaseModel):
    """An item as callers see it."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: int
    name: str
    price_cents: int
    version: int

    @property
    def etag(self) -> str:
        """The version, as HTTP names it."""
        return str(self.version)


class ItemPage(BaseModel):
    """A part of the list, and where the next part begins."""

    items: list[ItemView]
    next: int | None


class Price(BaseModel):
    """What the prices service answers."""

    price_cents: int


class Overview(BaseModel):
    """An item with what belongs to it; ``price_today`` is null where nobody could say it."""

    item: ItemView
    related: list[ItemView]
    price_today: int | None


VersionTest = Callable[[str], bool]


def any_version(etag: str) -> bool:
    """For callers who do not mind which version they change."""
    del etag
    return True


def page(*, after: int, limit: int) -> ItemPage:
    """Items whose id is greater than ``after``, at most ``limit``: stable while others insert."""
    statement = select(Item).where(Item.id > after).order_by(Item.id).limit(limit + 1)
    with read() as db:
        found = db.scalars(statement).all()
    views = [ItemView.model_validate(item) for item in found[:limit]]
    return ItemPage(items=views, next=views[-1].id if len(found) > limit else None)


def get(item_id: int) -> ItemView:
    """One item; ``NotFound`` where there is none."""
    with read() as db:
        item = db.get(Item, item_id)
    if item is None:
        raise NotFound("item", item_id)
    return ItemView.model_validate(item)


@cached(ttl=30, stale_ttl=300, max_entries=10_000)
def related_to(item_id: int) -> list[ItemView]:
    """The five items nearest in price; one query, however many threads ask at once."""
    with read() as db:
        item = db.get(Item, item_id)
        if item is None:
            raise NotFound("item", item_id)
        distance = func.abs(Item.price_cents - item.price_cents)
        others = select(Item).where(Item.id != item_id).order_by(distance, Item.id).limit(5)
        return [ItemView.model_validate(other) for other in db.scalars(others)]


def price_today(item_id: int) -> int | None:
    """What the prices service says; nice to have, so the answer does not wait long for it."""
    if not prices.configured:
        return None
    with move_on_after(0.3):
        try:
            return prices.get(f"/v1/prices/{item_id}", answer=Price).price_cents
        except (UpstreamAway, BadAnswer) as error:
            log.warning("no price of today for item %d: %s", item_id, error)
    return None


def overview(item_id: int) -> Overview:
    """Three questions at once; where one fails, the others are cancelled."""
    with TaskGroup(limit=3) as group:
        item = group.start(get, item_id)
        related = group.start(related_to, item_id)
        price = group.start(price_today, item_id)
    return Overview(item=item.result(), related=related.result(), price_today=price.result())


def create(name: str, price_cents: int) -> ItemView:
    """A new item."""
    item = Item(name=name, price_cents=price_cents)
    with transaction() as db:
        db.add(item)
    return ItemView.model_validate(item)


def update(
    item_id: int, changes: Mapping[str, Any], *, accepts: VersionTest = any_version
) -> ItemView:
    """Change the fields in ``changes``; ``PreconditionFailed`` for another version."""
    with transaction() as db:
        item = _locked(db, item_id, accepts)
        for field, value in changes.items():
            setattr(item, field, value)
    related_to.invalidate(item_id)
    return ItemView.model_validate(item)


def delete(item_id: int, *, accepts: VersionTest = any_version) -> None:
    """Remove the item."""
    with transaction() as db:
        db.delete(_locked(db, item_id, accepts))
    related_to.invalidate(item_id)


def request_appraisal(item_id: int) -> None:
    """Have an item appraised after the answer; ``NotFound`` where there is none."""
    get(item_id)
    background.submit(appraise, item_id)


def appraise(item_id: int) -> None:
    """Set the price to the average of the related items'; runs in the background."""
    related = related_to(item_id)
    if related:
        average = sum(item.price_cents for item in related) // len(related)
        update(item_id, {"price_cents": average})
    log.info("item %d is appraised", item_id)


def _locked(db: Session, item_id: int, accepts: VersionTest) -> Item:
    """The item, which nobody else can change until the transaction ends."""
    item = db.get(Item, item_id, with_for_update=True)
    if item is None:
        raise NotFound("item", item_id)
    if not accepts(str(item.version)):
        msg = f"Item {item_id} is at version {item.version} by now. Read it again."
        raise PreconditionFailed(msg)
    return item
