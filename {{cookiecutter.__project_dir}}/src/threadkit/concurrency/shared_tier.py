"""A second, shared place for cached values, known here only as a shape.

Several workers and hosts may share what one of them loaded. Whoever wires the service attaches a
tier (Redis, say); only caches with a `codec` use it:

    attach_shared_tier(tier)
    cache = Cache(1000, ttl=30, name="prices", codec=Codec(dump=json_bytes, load=json_loads))
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .keys import encode_key

V = TypeVar("V")

_logger = logging.getLogger(__name__)
_STAMP = struct.Struct(">d")


class SharedTier(Protocol):
    """Bytes by cache name and key text. It may raise anything: the cache then does without."""

    def get(self, cache: str, key: str) -> bytes | None: ...

    def set(self, cache: str, key: str, value: bytes, ttl: float) -> None: ...

    def delete(self, cache: str, key: str) -> None: ...


@dataclass(frozen=True)
class Codec(Generic[V]):
    """How a cache's values become bytes and come back. Never a pickle from a shared place."""

    dump: Callable[[V], bytes]
    load: Callable[[bytes], V]


# Replaced as a whole and never changed in place, so it needs no lock.
_tier: SharedTier | None = None


def attach_shared_tier(tier: SharedTier | None) -> None:
    """Use this tier from now on, in every cache that has a codec; None detaches it."""
    global _tier
    _tier = tier


class TierClient(Generic[V]):
    """One cache's view of the tier. Whatever fails there is logged and counted, and is a miss."""

    def __init__(self, cache: str, codec: Codec[V]) -> None:
        self._cache = cache
        self._codec = codec
        self.hits = self.errors = 0  # counted without a lock: close, not exact

    @property
    def attached(self) -> bool:
        """True if there is a tier to talk to."""
        return _tier is not None

    def get(self, key: Hashable) -> tuple[V, float] | None:
        """(value, its age in seconds), or None."""
        try:
            data = None if _tier is None else _tier.get(self._cache, encode_key(key))
            if data is None:
                return None
            (stored_at,) = _STAMP.unpack_from(data)
            value = self._codec.load(data[_STAMP.size :])
        except Exception:
            self._failed("read")
            return None
        self.hits += 1
        # Wall-clock time, the only clock that hosts share; a clock that lags cannot make it older
        # than it is, nor younger than new.
        return value, max(0.0, time.time() - stored_at)

    def set(self, key: Hashable, value: V, ttl: float) -> None:
        """Store a value for `ttl` seconds."""
        try:
            if _tier is not None:
                data = _STAMP.pack(time.time()) + self._codec.dump(value)
                _tier.set(self._cache, encode_key(key), data, ttl)
        except Exception:
            self._failed("write")

    def delete(self, key: Hashable) -> None:
        """Forget a value."""
        try:
            if _tier is not None:
                _tier.delete(self._cache, encode_key(key))
        except Exception:
            self._failed("delete")

    def _failed(self, what: str) -> None:
        self.errors += 1
        _logger.exception("cache %s could not %s in the shared tier", self._cache, what)
