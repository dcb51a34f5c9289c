"""While frames are looked at nothing is collected, and afterwards all is as it was."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from threadkit.profiling import collector
from threadkit.profiling.classify import stacks
from threadkit.profiling.collector import Collector


@pytest.fixture(autouse=True)
def needed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(collector, "NEEDED", True)
    assert gc.isenabled()
    yield
    gc.enable()


def test_it_rests_until_the_last_has_left() -> None:
    mine = Collector()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with mine.rests():
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    with mine.rests():
        assert not gc.isenabled()
        other.start()
        assert inside.wait(10)
    assert not gc.isenabled()
    leave.set()
    other.join(10)
    assert gc.isenabled()


def test_who_has_turned_it_off_finds_it_off() -> None:
    gc.disable()
    with Collector().rests():
        pass
    assert not gc.isenabled()


def test_where_collections_wait_by_themselves_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collector, "NEEDED", False)
    with Collector().rests():
        assert gc.isenabled()


def test_stacks_are_read_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    from threadkit.profiling import classify

    read = classify.sites_of

    def sites_of(*arguments: object) -> object:
        seen.append(gc.isenabled())
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(classify, "sites_of", sites_of)
    assert threading.get_ident() in stacks()
    assert seen
    assert not any(seen)
    assert gc.isenabled()
