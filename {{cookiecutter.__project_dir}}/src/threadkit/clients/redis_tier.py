"""The optional tier of caches that all instances of the service share, in Redis.

On where REDIS_URL is set; only caches that have a ``codec`` use it. It may only ever save
work: a Redis that is slow or away is a miss, and after a failure it is left alone for a
while, so that its time-out is not added to every request.
"""

from __future__ import annotations

import time
from typing import Any, Final

from threadkit.concurrency import attach_shared_tier
from threadkit.settings import Settings

PATIENCE: Final = 0.1
"""Seconds for the connection and for each answer."""
REST: Final = 1.0
"""Seconds for which a Redis that failed is not asked again."""


class RedisTier:
    """A ``Resource`` and the concurrency room's ``SharedTier``. Thread-safe."""

    def __init__(self, settings: Settings, *, service: str) -> None:
        self._url = settings.redis_url
        self._prefix = f"{service}:cache:"
        self._max_connections = settings.concurrency + settings.executor_threads
        self._client: Any = None
        # Written by whoever fails last: a race moves it by microseconds.
        self._rests_until = 0.0

    def start(self) -> None:
        """Become the shared tier; connections come with use."""
        import redis

        pool = redis.BlockingConnectionPool.from_url(
            self._url,
            max_connections=self._max_connections,
            timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            socket_timeout=PATIENCE,
        )
        self._client = redis.Redis(connection_pool=pool)
        attach_shared_tier(self)

    def abandon(self) -> None:
        """Forget the parent's connections."""
        self._client = None

    def close(self) -> None:
        """Detach and disconnect."""
        attach_shared_tier(None)
        self._client.close()
        self._client.connection_pool.disconnect()

    def get(self, cache: str, key: str) -> bytes | None:
        """The bytes under a key, or None."""
        value: bytes | None = self._ask("get", self._name(cache, key))
        return value

    def set(self, cache: str, key: str, value: bytes, ttl: float) -> None:
        """Keep ``value`` for ``ttl`` seconds."""
        self._ask("set", self._name(cache, key), value, px=max(1, round(ttl * 1000)))

    def delete(self, cache: str, key: str) -> None:
        """Forget a key. Tried even while Redis rests: a stale value would outlive the failure."""
        self._rests_until = 0.0
        self._ask("delete", self._name(cache, key))

    def _name(self, cache: str, key: str) -> str:
        return f"{self._prefix}{cache}:{key}"

    def _ask(self, command: str, *arguments: Any, **options: Any) -> Any:
        if time.monotonic() < self._rests_until:
            return None
        try:
            return getattr(self._client, command)(*arguments, **options)
        except Exception:
            self._rests_until = time.monotonic() + REST
            raise
