"""A cache that loads once, refreshes behind the answer, and forgets when told.

Go's counterpart is a cache library together with `singleflight`.

    items: Cache[int, Item] = Cache(max_entries=10_000, ttl=30, stale_ttl=300, name="items")

    item = items.get_or_load(7, lambda: fetch_item(7))
    items.invalidate(7)      # here and, through the bus, in the service's other workers

`@cached` in `cached.py` is the everyday way to it.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from cachebox import LRUCache

from .background import background
from .bus import publish_invalidation
from .cancel_scope import current
from .errors import Saturated
from .registry import register
from .shared_tier import Codec, TierClient
from .singleflight import SingleFlight

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

_logger = logging.getLogger(__name__)
_numbers = itertools.count(1)  # next() is atomic

# (value, fresh until, stale but good until, good if loading fails until), on the cache's clock.
# A plain tuple: building one is cheap, and the hit path reads two of its fields.
_Entry = tuple[Any, float, float, float] | None


@dataclass(frozen=True)
class _Absent:
    """Stored in place of a value: the load raised an error that counts as an answer."""

    error: BaseException
    traceback: TracebackType | None


@dataclass(frozen=True)
class _Aged:
    """A value from the shared tier: `age` seconds of its time are over."""

    value: Any
    age: float


class Cache(Generic[K, V]):
    """At most `max_entries` values, least recently used out first.

    Times in seconds. A value is fresh for `ttl` (None: for ever), shortened by a random part of
    up to `jitter` so that what was loaded together does not expire together. For `stale_ttl` more
    it is served at once while one load in the background refreshes it. For `stale_if_error` after
    its `ttl` it is what a failing load is replaced by. A `None` and the errors of `negative_on`
    are answers too, kept for `negative_ttl` (None: for `ttl`, and `negative_on` must be empty).
    A load has at most `time_limit`.

    `get_or_load` makes one load per key however many threads miss, with SingleFlight's rules: a
    failure reaches those who waited, once, and the next call tries afresh; a waiter leaves at its
    own deadline; asking for a key within its own load is a `RuntimeError`. A load that was under
    way when `invalidate` was called does not store what it brings.

    `invalidate` and `clear` reach the other workers over the bus, by this cache's name, which
    must therefore be the same there. With a `codec` a shared tier is asked before a load, and
    told after it.

    Thread-safe; a hit takes no lock of this class. Values are shared between threads: treat them
    as read-only. A forked child keeps the entries and starts without loads. It does not bound
    memory in bytes, and expired entries leave when their place is needed. Counts of hits are
    exact on builds with the GIL and close on others.
    """

    def __init__(
        self,
        max_entries: int,
        ttl: float | None = None,
        stale_ttl: float = 0.0,
        *,
        name: str | None = None,
        jitter: float = 0.1,
        stale_if_error: float = 0.0,
        negative_ttl: float | None = None,
        negative_on: tuple[type[Exception], ...] = (),
        time_limit: float | None = None,
        codec: Codec[V] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(max_entries, ttl, stale_ttl, jitter, stale_if_error, negative_ttl)
        if negative_on and negative_ttl is None:
            raise ValueError("negative_on needs a negative_ttl: for how many seconds is it true?")
        self.name = name or f"cache-{next(_numbers)}"
        self.max_entries = max_entries
        self.ttl = math.inf if ttl is None else ttl
        self.stale_ttl = stale_ttl
        self.stale_if_error = stale_if_error
        self.negative_ttl = self.ttl if negative_ttl is None else negative_ttl
        self._jitter = jitter
        self._negative_on = negative_on
        self._clock = clock
        self._tier = None if codec is None else TierClient(self.name, codec)
        # Reads of _entries are atomic by themselves. It is written, and _epoch with it, under
        # the lock of _flights, so that a load's end and an invalidation have an order.
        self._entries: LRUCache[Hashable, _Entry] = LRUCache(max_entries)
        self._flights: SingleFlight[Hashable, Any] = SingleFlight(self.name, time_limit=time_limit)
        self._epoch = 0
        # Counted without a lock.
        self._hits = self._stale_hits = self._misses = self._rescued = 0
        self._refresh_failures = self._evicted = self._invalidated = 0
        register("cache", self)

    def _after_fork(self) -> None:
        """Nothing to do: the entries are good, and the flights start afresh by themselves."""

    # Reading

    def get_or_load(self, key: K, load: Callable[[], V]) -> V:
        """The value of a key; `load()` makes it if there is none that is fresh enough."""
        entry = self._entries.get(key, None)
        if entry is not None and self._clock() < entry[1]:
            self._hits += 1
            if type(entry[0]) is not _Absent:
                return cast(V, entry[0])
        return self._look_further(key, load, entry)

    def get(self, key: K, default: D | None = None) -> V | D | None:
        """The value if there is one, fresh or stale; never loads, never refreshes."""
        entry = self._entries.get(key, None)
        if entry is None or self._clock() >= entry[2] or type(entry[0]) is _Absent:
            return default
        self._hits += 1
        return cast(V, entry[0])

    def _look_further(self, key: K, load: Callable[[], V], entry: _Entry) -> V:
        self._flights._refuse_reentrance(key)
        if entry is not None:
            now = self._clock()
            if now < entry[1]:
                return self._answer(entry[0])
            if now < entry[2]:
                self._stale_hits += 1
                self._refresh(key, load)
                return self._answer(entry[0])
        self._misses += 1
        try:
            value = self._flights._do(key, partial(self._load, key, load), self._committer(key))
        except Exception:
            scope = current.get()
            cancelled = scope is not None and scope.over
            if cancelled or entry is None or self._clock() >= entry[3]:
                raise
            self._rescued += 1
            _logger.warning("cache %s: a load failed, the old value serves", self.name)
            return self._answer(entry[0])
        return self._answer(value)

    @staticmethod
    def _answer(value: Any) -> V:
        if type(value) is _Aged:
            value = value.value
        if type(value) is _Absent:
            raise value.error.with_traceback(value.traceback)
        return cast(V, value)

    def _refresh(self, key: K, load: Callable[[], V]) -> None:
        try:
            self._flights._launch_in_background(
                key, partial(self._reload, key, load), self._committer(key), background.submit
            )
        except Saturated:
            self._refresh_failures += 1  # the stale value serves until there is room

    # Loading, in the load's own context

    def _load(self, key: K, load: Callable[[], V]) -> V | _Absent | _Aged:
        tier = self._tier
        if tier is None or not tier.attached:
            return self._call(load)
        found = tier.get(key)
        if found is not None and found[1] < self.ttl:
            return _Aged(*found)
        epoch = self._epoch
        value = self._call(load)
        if not isinstance(value, _Absent) and epoch == self._epoch:
            tier.set(key, value, self._lifetime(value) + self.stale_ttl)
            if epoch != self._epoch:  # an invalidation came between: it must win
                tier.delete(key)
        return value

    def _call(self, load: Callable[[], V]) -> V | _Absent:
        try:
            return load()
        except self._negative_on as error:
            return _Absent(error, error.__traceback__)

    def _reload(self, key: K, load: Callable[[], V]) -> V | _Absent | _Aged:
        try:
            return self._load(key, load)
        except Exception:
            self._refresh_failures += 1
            _logger.warning("cache %s: a refresh failed", self.name, exc_info=True)
            raise

    # Writing

    def put(self, key: K, value: V) -> None:
        """Store a value in this worker; a load under way does not overwrite it."""
        with self._flights._lock:
            self._flights._flights.pop(key, None)
            _retired = self._store(key, value)

    def _committer(self, key: K) -> Callable[[Any], object]:
        return partial(self._store, key)

    def _store(self, key: K, value: Any) -> object:
        # Under the lock of _flights. What leaves is handed out, so that it goes after the lock.
        age = 0.0
        if type(value) is _Aged:
            value, age = value.value, value.age
        fresh_until = self._clock() - age + self._lifetime(value)
        stale_until = fresh_until + self.stale_ttl
        entry = (value, fresh_until, stale_until, fresh_until + self.stale_if_error)
        retired: object = None
        if len(self._entries) >= self.max_entries and key not in self._entries:
            retired = self._entries.popitem()
            self._evicted += 1
        return retired, self._entries.insert(key, entry)

    def _lifetime(self, value: Any) -> float:
        ttl = self.negative_ttl if value is None or type(value) is _Absent else self.ttl
        return ttl * (1.0 - self._jitter * random.random())

    # Forgetting

    def invalidate(self, key: K) -> None:
        """Forget a key, here now and in the other workers as fast as the bus is."""
        self.invalidate_locally(key)
        publish_invalidation(self.name, key)

    def clear(self) -> None:
        """Forget everything, here and in the other workers; the shared tier's part expires."""
        self.clear_locally()
        publish_invalidation(self.name, everything=True)

    def invalidate_locally(self, key: Hashable) -> None:
        """Forget a key here (and in the shared tier). The bus calls it."""
        self._forget(key)
        if self._tier is not None and self._tier.attached:
            self._tier.delete(key)
            self._forget(key)  # a load may have read the old value between the two

    def _forget(self, key: Hashable) -> None:
        with self._flights._lock:
            self._epoch += 1
            self._invalidated += 1
            self._flights._flights.pop(key, None)
            _retired = self._entries.pop(key, None)

    def clear_locally(self) -> None:
        """Forget everything here. The bus calls it."""
        with self._flights._lock:
            self._epoch += 1
            self._invalidated += 1
            self._flights._flights.clear()
            _retired, self._entries = self._entries, LRUCache(self.max_entries)

    # Looking

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        entry = self._entries.peek(key, None)
        return entry is not None and self._clock() < entry[2]

    def stats(self) -> dict[str, float]:
        """Counts; `rescued` are failing loads answered with an old value."""
        flights = self._flights.stats()
        tier = self._tier
        return {
            "entries": len(self._entries),
            "max_entries": self.max_entries,
            "hits": self._hits,
            "stale_hits": self._stale_hits,
            "misses": self._misses,
            "loads": flights["loads"],
            "load_failures": flights["failed"],
            "loads_in_flight": flights["in_flight"],
            "waiting": flights["waiting"],
            "rescued": self._rescued,
            "refresh_failures": self._refresh_failures,
            "evicted": self._evicted,
            "invalidated": self._invalidated,
            "shared_hits": 0 if tier is None else tier.hits,
            "shared_errors": 0 if tier is None else tier.errors,
        }

    def __repr__(self) -> str:
        stats = self.stats()
        return (
            f"<Cache {self.name!r} {stats['entries']}/{self.max_entries} entries, "
            f"{stats['hits']} hits, {stats['misses']} misses, "
            f"{stats['loads_in_flight']} loads in flight>"
        )


def _check(
    max_entries: int,
    ttl: float | None,
    stale_ttl: float,
    jitter: float,
    stale_if_error: float,
    negative_ttl: float | None,
) -> None:
    if max_entries < 1:
        raise ValueError(f"max_entries={max_entries} must be at least 1")
    if (ttl is not None and not ttl > 0) or not stale_ttl >= 0 or not stale_if_error >= 0:
        raise ValueError(
            f"ttl={ttl} must be positive seconds or None, stale_ttl={stale_ttl} and "
            f"stale_if_error={stale_if_error} zero or more"
        )
    if negative_ttl is not None and not negative_ttl > 0:
        raise ValueError(f"negative_ttl={negative_ttl} must be positive seconds or None")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter={jitter} must be a share of the ttl, from 0 to below 1")
