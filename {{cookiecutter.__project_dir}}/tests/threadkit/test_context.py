"""Which request ids are taken over."""

from __future__ import annotations

import pytest

from threadkit.context import accepted_request_id, new_request_id


@pytest.mark.parametrize("header", ["a", "A-1_b.2", "x" * 128])
def test_a_well_formed_id_is_taken_over(header: str) -> None:
    assert accepted_request_id(header) == header


@pytest.mark.parametrize(
    "header", [None, "", "x" * 129, "a b", "a\n", "\na", "é", "a;b", "a\x00", "<script>"]
)
def test_any_other_id_is_not(header: str | None) -> None:
    assert accepted_request_id(header) is None


def test_a_new_id_is_well_formed_and_unlike_the_last() -> None:
    ids = {new_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(accepted_request_id(i) == i for i in ids)
