"""A map that many read and few change: reads take no lock.

Go's counterpart is `sync.Map`.

    routes: CopyOnWriteMap[str, Handler] = CopyOnWriteMap()
    handler, loaded = routes.load_or_store("/", make_handler())
    routes["/"](request)
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar, overload

from .registry import register

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_MISSING = object()


class CopyOnWriteMap(Generic[K, V]):
    """Every write makes a new dict and puts it in place at once; a dict in place never changes.

    So a read is a dict's read plus one attribute, iteration and `range` walk a snapshot, and a
    reader never waits for a writer, on builds without the GIL too. A write costs a copy of the
    whole map: for registries and routing tables of up to some thousand entries that change now
    and then. For anything that grows or changes with the traffic use a dict under a lock, or
    `Cache`. Thread-safe; in a forked child it holds what it held.
    """

    __slots__ = ("__weakref__", "_current", "_lock", "_writes", "name")

    def __init__(
        self, items: Mapping[K, V] | Iterable[tuple[K, V]] = (), *, name: str = "map"
    ) -> None:
        self.name = name
        # _lock guards the replacement of _current, and _writes. Values are never compared under
        # it; keys are hashed and compared (they are a dict's keys).
        self._lock = threading.Lock()
        self._current: dict[K, V] = dict(items)
        self._writes = 0
        register("map", self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    # Reading, without a lock

    def __getitem__(self, key: K) -> V:
        return self._current[key]

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: D | None = None) -> V | D | None:
        """The value, or `default`."""
        return self._current.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._current

    def __len__(self) -> int:
        return len(self._current)

    def __iter__(self) -> Iterator[K]:
        return iter(self._current)

    def range(self) -> Iterator[tuple[K, V]]:
        """The items as they are now; writes that come later are not among them."""
        return iter(self._current.items())

    def snapshot(self) -> Mapping[K, V]:
        """A read-only view of the map as it is now, which never changes."""
        return MappingProxyType(self._current)

    # Writing, one at a time

    def _replace(self, new: dict[K, V]) -> dict[K, V]:
        # Under _lock. Every caller keeps the old dict in `_retired` until the lock is free: the
        # last reference to a value may go with it, and its finalizer may use this very map.
        old, self._current = self._current, new
        self._writes += 1
        return old

    def __setitem__(self, key: K, value: V) -> None:
        with self._lock:
            _retired = self._replace({**self._current, key: value})

    def __delitem__(self, key: K) -> None:
        with self._lock:
            new = dict(self._current)
            del new[key]
            _retired = self._replace(new)

    def update(self, items: Mapping[K, V] | Iterable[tuple[K, V]]) -> None:
        """Write many at the price of one; readers see all of them or none."""
        changes = dict(items)  # outside the lock: the iterable is the caller's code
        with self._lock:
            _retired = self._replace({**self._current, **changes})

    def load_or_store(self, key: K, value: V) -> tuple[V, bool]:
        """(the value in the map, True if it was there; False if `value` was stored now)."""
        found = self._current.get(key, _MISSING)
        if found is _MISSING:
            with self._lock:
                found = self._current.get(key, _MISSING)
                if found is _MISSING:
                    _retired = self._replace({**self._current, key: value})
                    return value, False
        return found, True  # type: ignore[return-value]

    def pop(self, key: K, default: D) -> V | D:
        """Remove a key; its value, or `default` if it was not there."""
        with self._lock:
            if key not in self._current:
                return default
            new = dict(self._current)
            value = new.pop(key)
            _retired = self._replace(new)
            return value

    def compare_and_swap(self, key: K, old: V, new: V) -> bool:
        """Write `new` if the value is (or equals) `old`; True if it was written."""
        while True:
            found = self._current.get(key, _MISSING)
            # `==` is the values' own code, so it runs here; under the lock only identity counts.
            if found is _MISSING or not (found is old or found == old):
                return False
            with self._lock:
                if self._current.get(key, _MISSING) is found:
                    _retired = self._replace({**self._current, key: new})
                    return True

    def compare_and_delete(self, key: K, old: V) -> bool:
        """Remove the key if its value is (or equals) `old`; True if it was removed."""
        while True:
            found = self._current.get(key, _MISSING)
            if found is _MISSING or not (found is old or found == old):
                return False
            with self._lock:
                if self._current.get(key, _MISSING) is found:
                    remaining = dict(self._current)
                    del remaining[key]
                    _retired = self._replace(remaining)
                    return True

    def stats(self) -> dict[str, float]:
        """`entries` now, `writes` in all."""
        with self._lock:
            return {"entries": len(self._current), "writes": self._writes}

    def __repr__(self) -> str:
        return f"<CopyOnWriteMap {self.name!r} {len(self)} entries, {self._writes} writes>"
