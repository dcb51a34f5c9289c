"""The heap, by type and by place; nothing goes on counting afterwards."""

from __future__ import annotations

import threading
import tracemalloc

import pytest

from threadkit.profiling import heap
from threadkit.profiling.decode import decode
from threadkit.profiling.encode import encode
from threadkit.profiling.window import Abandoned, Window


class Kept:
    """Something to be found."""


def test_live_objects_are_counted_by_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "MOST_SIZED", 10_000_000)
    kept = [Kept() for _ in range(321)]
    profile = heap.by_type()
    name = f"{Kept.__module__}.Kept"
    (values,) = [v for (stack, _), v in profile.samples.items() if stack[0].name == name]
    assert values[0] == len(kept)
    assert values[1] > 0


def test_a_class_whose_module_is_no_text_is_counted_too() -> None:
    odd = type("Odd", (), {"__module__": property(lambda self: "x")})
    kept = [odd() for _ in range(10)]
    assert decode(encode(heap.by_type())).total(0) > len(kept)


def test_a_sample_stands_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    every = heap.by_type().total(0)
    monkeypatch.setattr(heap, "MOST_SIZED", 1000)
    profile = heap.by_type()
    assert len(profile.comments) == 2
    assert profile.total(0) == pytest.approx(every, rel=0.2)


def test_what_is_allocated_meanwhile_is_shown_by_place_and_function() -> None:
    kept: list[bytearray] = []

    def grow_here(seconds: float) -> bool:
        kept.extend(bytearray(10_000) for _ in range(100))
        return False

    profile = heap.allocated(Window(0.1, depth=1, pause=grow_here))
    mine = {s[0].name: v for (s, _), v in profile.samples.items() if s[0].file == __file__}
    count, size = mine["grow_here"]
    assert count >= 100
    assert size >= 1_000_000
    assert len(kept) >= 100
    assert not tracemalloc.is_tracing()


def test_it_stops_counting_when_the_client_leaves() -> None:
    left = threading.Event()
    left.set()
    with pytest.raises(Abandoned):
        heap.allocated(Window(30, depth=1, pause=left.wait))
    assert not tracemalloc.is_tracing()


def test_an_owners_own_tracing_goes_on() -> None:
    tracemalloc.start(2)
    try:
        profile = heap.allocated(Window(0.01, depth=1))
        assert tracemalloc.is_tracing()
        assert tracemalloc.get_traceback_limit() == 2
        assert "ran before" in profile.comments[0]
    finally:
        tracemalloc.stop()


def test_the_figures_name_memory_and_collector() -> None:
    figures = heap.figures()
    for name in ("RSS", "AllocatedBlocks", "GC generation 2", "Tracemalloc = False"):
        assert f"# {name}" in figures
