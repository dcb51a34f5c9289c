"""Claims about Cache: one load, times, what invalidation beats, other workers, the shared tier."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from threadkit.concurrency import (
    Cache,
    Codec,
    DeadlineExceeded,
    apply_invalidation,
    attach_invalidation_bus,
    attach_shared_tier,
    background,
    fail_after,
    move_on_after,
    named,
    sleep,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def never() -> Any:
    pytest.fail("it loaded")


def refuse() -> Any:
    raise LookupError("the source is down")


def test_a_hit_does_not_load() -> None:
    cache: Cache[str, int] = Cache(10)
    assert cache.get_or_load("a", lambda: 1) == 1
    assert cache.get_or_load("a", never) == 1
    assert cache.get("a") == 1
    assert cache.get("b") is None
    assert cache.get("b", 7) == 7
    assert "a" in cache
    assert "b" not in cache
    assert len(cache) == 1


def test_a_hundred_threads_that_miss_one_key_make_one_load(threads: Any, eventually: Any) -> None:
    cache: Cache[str, bool] = Cache(10)
    release = threading.Event()

    def ask() -> bool:
        with fail_after(30):
            return cache.get_or_load("key", lambda: release.wait(10))
        raise AssertionError

    answers = [threads.start(ask) for _ in range(100)]
    eventually(lambda: cache.stats()["waiting"] == 100)
    release.set()
    assert all(answer.result(10) for answer in answers)
    assert cache.stats()["loads"] == 1


def test_a_value_is_fresh_for_its_ttl_and_jitter_only_shortens_it(clock: Clock) -> None:
    cache: Cache[int, float] = Cache(1000, ttl=10, jitter=0.5, clock=clock)
    for key in range(200):
        cache.put(key, clock.now)
    clock.now += 4.999
    assert all(cache.get(key) is not None for key in range(200))
    clock.now += 2.5
    alive = sum(cache.get(key) is not None for key in range(200))
    assert 50 < alive < 150
    clock.now += 2.501
    assert not any(cache.get(key) for key in range(200))


def test_the_least_recently_used_goes_first() -> None:
    cache: Cache[int, int] = Cache(3)
    for key in (1, 2, 3):
        cache.put(key, key)
    cache.get(1)
    cache.put(4, 4)
    assert 2 not in cache
    assert all(key in cache for key in (1, 3, 4))
    assert cache.stats()["evicted"] == 1


def test_a_stale_value_is_served_at_once_while_one_load_refreshes_it(
    clock: Clock, threads: Any, eventually: Any
) -> None:
    cache: Cache[str, str] = Cache(10, ttl=1, stale_ttl=10, jitter=0, clock=clock)
    cache.put("key", "old")
    clock.now += 1
    release = threading.Event()
    loads: list[int] = []

    def load() -> str:
        loads.append(threading.get_ident())
        assert release.wait(10)
        return "new"

    for _ in range(5):
        assert cache.get_or_load("key", load) == "old"
    release.set()
    eventually(lambda: cache.get_or_load("key", load) == "new")
    assert len(loads) == 1
    assert loads[0] != threading.get_ident()
    assert cache.stats()["stale_hits"] >= 5


def test_a_failing_refresh_is_logged_and_the_stale_value_serves_on(
    clock: Clock, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cache: Cache[str, str] = Cache(10, ttl=1, stale_ttl=10, jitter=0, clock=clock, name="flaky")
    cache.put("key", "old")
    clock.now += 1
    assert cache.get_or_load("key", refuse) == "old"
    eventually(lambda: cache.stats()["refresh_failures"] == 1)
    eventually(lambda: background.stats()["pending"] == 0)
    assert cache.get_or_load("key", lambda: "new") == "old"
    eventually(lambda: cache.get("key") == "new")
    assert "cache flaky: a refresh failed" in caplog.text


def test_a_refresh_that_has_no_room_in_the_background_changes_nothing(clock: Clock) -> None:
    cache: Cache[str, str] = Cache(10, ttl=1, stale_ttl=10, jitter=0, clock=clock)
    cache.put("key", "old")
    clock.now += 1
    background.close()
    assert cache.get_or_load("key", never) == "old"
    assert cache.stats()["loads_in_flight"] == 0
    assert cache.stats()["refresh_failures"] == 1


def slow() -> str:
    """A load that nobody waits for to the end."""
    sleep(60)
    return "new"


def test_the_background_drain_ends_a_refresh(clock: Clock, eventually: Any) -> None:
    cache: Cache[str, str] = Cache(10, ttl=1, stale_ttl=10, jitter=0, clock=clock)
    cache.put("key", "old")
    clock.now += 1
    cache.get_or_load("key", slow)
    eventually(lambda: background.stats()["running"] == 1)
    background.drain(0.01, grace=5)
    assert cache.stats()["loads_in_flight"] == 0


def test_stale_if_error_answers_for_a_failing_load(clock: Clock) -> None:
    cache: Cache[str, str] = Cache(10, ttl=1, stale_if_error=10, jitter=0, clock=clock)
    cache.put("key", "old")
    clock.now += 5
    assert cache.get_or_load("key", refuse) == "old"
    assert cache.stats()["rescued"] == 1
    with pytest.raises(DeadlineExceeded), fail_after(0.01):
        cache.get_or_load("key", slow)
    clock.now += 6
    with pytest.raises(LookupError):
        cache.get_or_load("key", refuse)


def test_negative_results_are_answers_for_a_time_of_their_own(clock: Clock) -> None:
    cache: Cache[str, str | None] = Cache(
        10, ttl=100, negative_ttl=1, negative_on=(LookupError,), jitter=0, clock=clock
    )
    assert cache.get_or_load("none", lambda: None) is None
    assert cache.get_or_load("none", never) is None
    for _ in range(3):
        with pytest.raises(LookupError, match="the source is down"):
            cache.get_or_load("error", refuse)
    assert cache.stats()["loads"] == 2
    assert cache.get("error", "default") == "default"
    clock.now += 1
    assert cache.get_or_load("none", lambda: "now") == "now"
    assert cache.get_or_load("error", lambda: "now") == "now"


def test_a_failure_is_tried_afresh_by_the_next_call() -> None:
    cache: Cache[str, int] = Cache(10)
    with pytest.raises(LookupError):
        cache.get_or_load("key", refuse)
    assert cache.get_or_load("key", lambda: 1) == 1


@pytest.mark.parametrize("how", ["invalidate", "clear", "put", "from another worker"])
def test_invalidate_beats_a_load_in_flight(threads: Any, eventually: Any, how: str) -> None:
    cache: Cache[str, str] = Cache(10, name="in flight")
    release = threading.Event()
    old = threads.start(cache.get_or_load, "key", lambda: release.wait(10) and "old")
    eventually(lambda: cache.stats()["loads_in_flight"] == 1)
    if how == "invalidate":
        cache.invalidate("key")
    elif how == "clear":
        cache.clear()
    elif how == "put":
        cache.put("key", "put")
    else:
        apply_invalidation("in flight", None)
    release.set()
    assert old.result(5) == "old"  # it asked before the invalidation
    assert cache.get("key") == ("put" if how == "put" else None)


def test_after_invalidate_the_next_call_loads_though_an_old_load_is_under_way(
    threads: Any, eventually: Any
) -> None:
    cache: Cache[str, str] = Cache(10)
    release = threading.Event()
    threads.start(cache.get_or_load, "key", lambda: release.wait(10) and "old")
    eventually(lambda: cache.stats()["loads_in_flight"] == 1)
    cache.invalidate("key")
    assert cache.get_or_load("key", lambda: "new") == "new"
    release.set()
    threads.join()
    assert cache.get("key") == "new"


def test_a_value_that_uses_the_cache_when_it_dies_does_not_deadlock() -> None:
    """What is evicted, replaced or invalidated must die outside the lock."""
    cache: Cache[int, Any] = Cache(1)

    class Value:
        def __del__(self) -> None:
            cache.invalidate(99)

    with fail_after(10):
        for key in (1, 2):
            cache.get_or_load(key, Value)
        cache.put(2, Value())
        cache.invalidate(2)
        cache.put(2, Value())
        cache.clear()


class Bus:
    """Two workers' bus in one process would reach the same caches; so this one records."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str | None]] = []
        self.listener: Callable[[str, str | None], None] | None = None

    def publish(self, cache: str, key: str | None) -> None:
        self.published.append((cache, key))

    def subscribe(self, listener: Callable[[str, str | None], None]) -> None:
        self.listener = listener


def test_invalidations_are_published_and_those_of_other_workers_applied() -> None:
    bus = Bus()
    attach_invalidation_bus(bus)
    cache: Cache[Any, int] = Cache(10, name="shared name")
    cache.put((1, "a"), 1)
    cache.put((2, "b"), 2)
    cache.invalidate((1, "a"))
    ((name, key),) = bus.published
    assert name == "shared name"
    cache.put((1, "a"), 3)
    assert bus.listener is not None
    bus.listener(name, key)
    assert (1, "a") not in cache
    assert (2, "b") in cache
    assert len(bus.published) == 1, "what came from the bus must not go back to it"
    cache.invalidate(object())
    assert bus.published[-1] == ("shared name", None), "a key without a name clears the others"
    cache.clear()
    assert len(bus.published) == 3


def test_a_bus_that_fails_is_logged_and_the_cache_is_invalid_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Bus):
        def publish(self, cache: str, key: str | None) -> None:
            raise OSError("no route")

    attach_invalidation_bus(Broken())
    cache: Cache[int, int] = Cache(10)
    cache.put(1, 1)
    cache.invalidate(1)
    assert 1 not in cache
    assert "no route" in caplog.text


class Tier:
    def __init__(self) -> None:
        self.data: dict[tuple[str, str], bytes] = {}
        self.fails = False

    def get(self, cache: str, key: str) -> bytes | None:
        if self.fails:
            raise OSError("away")
        return self.data.get((cache, key))

    def set(self, cache: str, key: str, value: bytes, ttl: float) -> None:
        if self.fails:
            raise OSError("away")
        self.data[cache, key] = value

    def delete(self, cache: str, key: str) -> None:
        self.data.pop((cache, key), None)


TEXT: Codec[str] = Codec(dump=str.encode, load=bytes.decode)


def test_a_shared_tier_spares_other_workers_the_load() -> None:
    tier = Tier()
    attach_shared_tier(tier)
    here: Cache[int, str] = Cache(10, ttl=30, name="tiered", codec=TEXT)
    there: Cache[int, str] = Cache(10, ttl=30, name="tiered", codec=TEXT)
    assert here.get_or_load(1, lambda: "value") == "value"
    assert there.get_or_load(1, never) == "value"
    assert there.get_or_load(1, never) == "value"
    assert there.stats()["shared_hits"] == 1
    here.invalidate(1)
    there.invalidate_locally(1)
    assert there.get_or_load(1, lambda: "new") == "new"


def test_a_shared_tier_that_fails_is_done_without() -> None:
    tier = Tier()
    tier.fails = True
    attach_shared_tier(tier)
    cache: Cache[int, str] = Cache(10, ttl=30, codec=TEXT)
    assert cache.get_or_load(1, lambda: "value") == "value"
    assert cache.stats()["shared_errors"] == 2


def test_a_load_that_an_invalidation_overtook_does_not_reach_the_shared_tier(
    threads: Any, eventually: Any
) -> None:
    tier = Tier()
    attach_shared_tier(tier)
    cache: Cache[int, str] = Cache(10, ttl=30, codec=TEXT)
    release = threading.Event()
    old = threads.start(cache.get_or_load, 1, lambda: release.wait(10) and "old")
    eventually(lambda: cache.stats()["loads_in_flight"] == 1)
    cache.invalidate(1)
    release.set()
    assert old.result(5) == "old"
    assert not tier.data


def test_bad_arguments_are_refused() -> None:
    bad: list[dict[str, Any]] = [
        {"max_entries": 0},
        {"ttl": 0},
        {"ttl": float("nan")},
        {"stale_ttl": -1},
        {"jitter": 1},
        {"negative_ttl": 0},
        {"negative_on": (KeyError,)},
    ]
    for arguments in bad:
        with pytest.raises(ValueError, match=r"must|needs"):
            Cache(**{"max_entries": 1, **arguments})


def test_it_shows_its_state_and_is_listed() -> None:
    cache: Cache[int, int] = Cache(5, name="shown")
    cache.get_or_load(1, lambda: 1)
    cache.get_or_load(1, never)
    assert repr(cache) == "<Cache 'shown' 1/5 entries, 1 hits, 1 misses, 0 loads in flight>"
    assert cache in named("cache")


def test_a_forked_child_keeps_the_entries_and_can_load(
    threads: Any, eventually: Any, in_forked_child: Callable[[Callable[[], None]], None]
) -> None:
    cache: Cache[str, Any] = Cache(10)
    cache.put("kept", 1)
    release = threading.Event()
    loading = threads.start(cache.get_or_load, "key", lambda: release.wait(10))
    eventually(lambda: cache.stats()["loads_in_flight"] == 1)

    def check() -> None:
        assert cache.get_or_load("kept", never) == 1
        with fail_after(5):
            assert cache.get_or_load("key", lambda: 2) == 2

    in_forked_child(check)
    release.set()
    loading.result(5)


def test_no_stale_value_after_an_invalidation_under_stress(threads: Any) -> None:
    """The source only counts up; after `invalidate` returns nobody may see an older number."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    cache: Cache[int, int] = Cache(2, ttl=0.001, jitter=0.5)
    source = [0] * 3
    lock = threading.Lock()

    def read(me: int) -> None:
        for round_ in range(60):
            key = (me + round_) % 3
            before = source[key]
            with move_on_after(10 if round_ % 4 else 0.0005):
                assert cache.get_or_load(key, partial(source.__getitem__, key)) >= before

    def write(me: int) -> None:
        for round_ in range(40):
            key = (me + round_) % 3
            with lock:
                new = source[key] + 1
                committed[key] = new
                source[key] = new
                cache.invalidate(key)

    committed = [0] * 3

    def check(me: int) -> None:
        for round_ in range(60):
            key = (me + round_) % 3
            with lock:
                floor = committed[key]
            assert cache.get_or_load(key, partial(source.__getitem__, key)) >= floor

    try:
        work = [threads.start((check, write, check, write)[me % 4], me) for me in range(32)]
        for result in work:
            result.result(60)
    finally:
        sys.setswitchinterval(interval)


class CacheMachine(RuleBasedStateMachine):
    """Against a dict with times and an order of use."""

    SIZE, TTL = 3, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache: Cache[int, int] = Cache(self.SIZE, ttl=self.TTL, jitter=0, clock=self.clock)
        self.model: dict[int, tuple[int, float]] = {}
        self.version = 0

    def touch(self, key: int) -> None:
        self.model[key] = self.model.pop(key)

    def store(self, key: int, value: int) -> None:
        if key not in self.model and len(self.model) == self.SIZE:
            del self.model[next(iter(self.model))]
        self.model.pop(key, None)
        self.model[key] = (value, self.clock.now + self.TTL)

    @rule(key=st.integers(0, 5))
    def get_or_load(self, key: int) -> None:
        self.version += 1
        value = self.cache.get_or_load(key, lambda: self.version)
        if key in self.model:
            self.touch(key)
            if self.clock.now < self.model[key][1]:
                assert value == self.model[key][0]
                return
        assert value == self.version
        self.store(key, value)

    @rule(key=st.integers(0, 5))
    def failing_load(self, key: int) -> None:
        fresh = key in self.model and self.clock.now < self.model[key][1]
        if key in self.model:
            self.touch(key)
        if fresh:
            assert self.cache.get_or_load(key, refuse) == self.model[key][0]
        else:
            with pytest.raises(LookupError):
                self.cache.get_or_load(key, refuse)

    @rule(key=st.integers(0, 5))
    def put(self, key: int) -> None:
        self.version += 1
        self.cache.put(key, self.version)
        self.store(key, self.version)

    @rule(key=st.integers(0, 5))
    def invalidate(self, key: int) -> None:
        self.cache.invalidate(key)
        self.model.pop(key, None)

    @rule(key=st.integers(0, 5))
    def load_that_is_overtaken(self, key: int) -> None:
        def load() -> int:
            self.cache.invalidate(key)
            return -1

        if key in self.model and self.clock.now < self.model[key][1]:
            return
        assert self.cache.get_or_load(key, load) == -1
        self.model.pop(key, None)

    @rule(seconds=st.sampled_from([1.0, 5.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.model.clear()

    @invariant()
    def same_content(self) -> None:
        for key in range(6):
            alive = key in self.model and self.clock.now < self.model[key][1]
            assert (key in self.cache) == alive
        assert len(self.cache) == len(self.model)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
