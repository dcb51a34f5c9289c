"""Claims about cache keys as text: they come back equal, and never run code."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from threadkit.concurrency.keys import decode_key, encode_key

plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids()
    | st.dates()
    | st.decimals(allow_nan=False)
)
nested = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=10,
)


@st.composite
def keys(draw: st.DrawFn) -> Any:
    """A short name for the strategy, whose own description would be pages long."""
    return draw(nested)


@given(keys())
def test_a_key_comes_back_equal(key: Any) -> None:
    assert decode_key(encode_key(key)) == key


def test_every_kind_of_part_travels() -> None:
    key = (
        1, 2.5, "a", b"b", None, True, UUID(int=1), Decimal("1.10"), date(2026, 1, 2),
        datetime(2026, 1, 2, 3, tzinfo=UTC), frozenset({1, 2}),
    )  # fmt: skip
    assert decode_key(encode_key(key)) == key


def test_a_set_has_the_same_text_whatever_its_order() -> None:
    assert encode_key(frozenset("abcdef")) == encode_key(frozenset("fedcba"))


def test_what_cannot_travel_is_a_type_error_with_the_remedy() -> None:
    with pytest.raises(TypeError, match="key= function"):
        encode_key((1, object()))


@pytest.mark.parametrize("text", ['["x","1"]', "[]", '{"a":1}', '["i"]', "7", '["n","x"]', "]"])
def test_a_text_from_elsewhere_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own or ours
        decode_key(text)
