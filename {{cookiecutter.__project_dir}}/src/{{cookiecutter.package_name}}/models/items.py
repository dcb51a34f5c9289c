"""The ``items`` table of the example."""

from __future__ import annotations

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base, BigKey


class Item(Base):
    """Something with a name and a price."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    price_cents: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column()

    # SQLAlchemy counts it up with each change; it is what the ETag shows.
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form
    # An id that was deleted must not come back as another item.
    __table_args__ = ({"sqlite_autoincrement": True},)
