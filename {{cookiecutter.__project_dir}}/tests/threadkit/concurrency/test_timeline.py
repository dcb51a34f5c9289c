"""Timelines: what a request did and when, bounded, and without anybody's data."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from threadkit.concurrency import (
    Bulkhead,
    Cache,
    CancelScope,
    TaskGroup,
    background,
    fail_after,
    sleep,
    timeline,
)
from threadkit.concurrency.timeline import LONGEST_NAME, MOST_SPANS, Span, Timeline, shown


@pytest.fixture
def current() -> Iterator[Timeline]:
    made = Timeline()
    token = timeline.current.set(made)
    yield made
    timeline.current.reset(token)


def kinds(line: Timeline) -> list[str]:
    return [f"{span['kind']} {span['name']}" for span in line.document()]


def test_outside_a_request_a_span_measures_itself_and_is_kept_nowhere() -> None:
    with Span("query", "SELECT 1") as span:
        pass
    assert span.ended is not None
    assert span.ended >= span.started


def test_an_open_span_says_what_is_done_now(current: Timeline) -> None:
    with Span("call", "outer"):
        with Span("query", "inner") as inner:
            assert current.open_span() is inner
            assert current.document()[1]["seconds"] is None
        open_span = current.open_span()
        assert open_span is not None
        assert open_span.name == "outer"
    assert current.open_span() is None


def test_a_span_that_ends_by_an_error_has_ended(current: Timeline) -> None:
    with pytest.raises(OSError, match="away"), Span("call", "prices"):
        raise OSError("away")
    assert current.open_span() is None


def test_a_timeline_is_bounded_and_says_what_it_left_out(current: Timeline) -> None:
    for _ in range(MOST_SPANS + 7):
        with Span("query", "SELECT 1"):
            pass
    assert len(current.spans) == MOST_SPANS
    assert current.dropped == 7


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SELECT *\n  FROM items", "SELECT * FROM items"),
        ("WHERE name = 'O''Hara' AND x = %(x)s", "WHERE name = '…' AND x = %(x)s"),
        ("SELECT 'cut off before its en", "SELECT '…'"),
    ],
)
def test_names_are_shown_on_one_line_without_literals(name: str, expected: str) -> None:
    assert shown(name) == expected


def test_a_name_is_shown_no_longer_than_its_bound() -> None:
    assert len(shown("x" * 10_000)) == LONGEST_NAME
    assert "secret" not in shown("SELECT '" + "secret" * 1000)


def test_tasks_of_a_group_write_into_the_timeline_of_their_request(current: Timeline) -> None:
    def child() -> None:
        with Span("query", "SELECT 1"):
            pass

    with TaskGroup(name="fan-out") as group:
        group.start(child)
    assert "query SELECT 1" in kinds(current)
    assert "join fan-out" in kinds(current)
    assert any(kind.startswith("task ") and "child" in kind for kind in kinds(current))


def test_background_work_and_loads_belong_to_no_request(current: Timeline) -> None:
    def work() -> str:
        with Span("query", "not the request's"):
            return "done"

    assert background.submit(work).result(timeout=5) == "done"
    cache: Cache[str, str] = Cache(max_entries=1, ttl=1, name="words")
    with CancelScope(5):
        assert cache.get_or_load("key", work) == "done"
    assert not any("not the request's" in kind for kind in kinds(current))
    assert "load words" in kinds(current)


def test_a_hit_of_a_cache_leaves_no_span(current: Timeline) -> None:
    cache: Cache[str, str] = Cache(max_entries=1, ttl=60, name="words")
    cache.get_or_load("key", lambda: "value")
    before = len(current.spans)
    cache.get_or_load("key", lambda: "value")
    assert len(current.spans) == before


def test_a_wait_for_a_bulkhead_is_a_span_and_an_entry_without_one_is_not(
    current: Timeline,
) -> None:
    bulkhead = Bulkhead("reports", max_concurrent=1, max_waiting=1, max_wait=10)
    with bulkhead:
        assert kinds(current) == []
        waiting = threading.Event()

        def enter() -> None:
            timeline.current.set(current)
            waiting.set()
            with bulkhead:
                pass

        thread = threading.Thread(target=enter)
        thread.start()
        assert waiting.wait(5)
        for _ in range(1000):
            if bulkhead.stats()["waiting"]:
                break
            threading.Event().wait(0.005)
        open_span = current.open_span()
        assert open_span is not None
        assert (open_span.kind, open_span.name) == ("wait", "bulkhead reports")
    thread.join(5)
    assert not thread.is_alive()
    assert current.open_span() is None


def test_a_sleep_within_a_scope_is_a_span(current: Timeline) -> None:
    with fail_after(5):
        sleep(0.001)
    assert kinds(current) == ["sleep 0.001 s"]


def test_it_says_what_it_is() -> None:
    with Span("query", "SELECT 1") as span:
        assert repr(span) == "<Span query 'SELECT 1' open>"
    assert repr(span).startswith("<Span query 'SELECT 1' 0.0")
