"""A client for one upstream, over urllib3's thread-safe connection pool.

Go's counterpart is an ``http.Client`` used with ``NewRequestWithContext``: a call waits no
longer than the current scope allows, carries the request id along and tells the upstream how
much time is left. A declaration at import time opens nothing; connections come with use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from pydantic import TypeAdapter, ValidationError

from threadkit import runtime
from threadkit.clients.call import Call, close, pools
from threadkit.concurrency import checkpoint, current_scope, remaining
from threadkit.concurrency.registry import register
from threadkit.concurrency.timeline import Span
from threadkit.context import request_id
from threadkit.errors import ServiceError, Unavailable

T = TypeVar("T")

DEFAULT_TIMEOUT = 10.0
"""Seconds for the connection and for each read, where no scope sets a deadline."""


class UpstreamAway(Unavailable):
    """The upstream cannot be reached, broke off or answered 502, 503 or 504."""


class BadAnswer(ServiceError):
    """The upstream answered something that this service cannot use."""

    status = 502
    title = "Bad Gateway"


class Client:
    """Calls one upstream, or any where no base address is given. Thread-safe.

    ``base_url`` is the upstream's address; ``base_url_setting`` names the setting that holds
    it, read when the first call is made. At most ``max_connections`` are open at once; one
    more call waits for a connection, no longer than its scope allows. Nothing is retried.

    A call ends with its scope: at the deadline, and when it is cancelled, be it in the midst of
    an answer that trickles. Only the wait for a connection, the connecting and a TLS handshake
    have nothing but the deadline; ``timeout`` bounds them too, and each read.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        name: str | None = None,
        base_url_setting: str | None = None,
        max_connections: int = 10,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        if base_url is not None and base_url_setting is not None:
            msg = "give a Client base_url or base_url_setting, not both"
            raise ValueError(msg)
        self.name = name or base_url or base_url_setting or "http"
        self._base_url = base_url
        self._setting = base_url_setting
        self._max_connections = max_connections
        self._timeout = timeout
        self._start_afresh()
        register("client", self)

    def _start_afresh(self) -> None:
        # Guards what is below it: two first calls must not make two pools.
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self._pid = 0
        self._calls = self._failed = self._in_flight = 0

    def _after_fork(self) -> None:
        # A parent's sockets stay the parent's: its pool is only forgotten.
        self._start_afresh()

    def __repr__(self) -> str:
        return f"<Client {self.name!r}, at most {self._max_connections} connections>"

    @property
    def configured(self) -> bool:
        """Whether there is an address to call."""
        return self._setting is None or bool(self._address())

    def get(self, url: str, *, answer: type[T], headers: Mapping[str, str] | None = None) -> T:
        """GET, and the answer's JSON as a model; ``BadAnswer`` where it is none."""
        response = self.request("GET", url, headers=headers)
        if response.status != 200:
            msg = f"{self.name} answered {response.status}."
            raise BadAnswer(msg)
        try:
            return TypeAdapter(answer).validate_json(response.data)
        except ValidationError as error:
            msg = f"{self.name} answered something else than {answer.__name__}."
            raise BadAnswer(msg) from error

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """Any call, as ``urllib3.PoolManager.request``; the answer's body is read."""
        checkpoint()
        seconds = remaining()
        limit = self._timeout if seconds is None else min(self._timeout, seconds)
        sent = {**self._context(seconds), **(headers or {})}
        failed = True
        with self._lock:
            self._calls += 1
            self._in_flight += 1
        try:
            with (
                Span("call", f"{self.name}: {method} {urlsplit(url).path}"),
                Call(current_scope()) as call,
            ):
                response = self._connections().request(
                    method,
                    self._url(url),
                    headers=sent,
                    timeout=urllib3.Timeout(total=limit),
                    pool_timeout=limit,
                    retries=False,
                    **options,
                )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            checkpoint()  # the scope's own end says more than the failure that it caused
            msg = f"{self.name} does not answer."
            raise UpstreamAway(msg) from error
        else:
            if call.cut_off:  # an answer without a length ends where the connection does
                checkpoint()
            failed = response.status >= 500
        finally:
            with self._lock:
                self._in_flight -= 1
                self._failed += failed
        if response.status in (502, 503, 504):
            msg = f"{self.name} answered {response.status}."
            raise UpstreamAway(msg)
        return response

    def stats(self) -> dict[str, float]:
        """Calls ``in_flight`` now; ``calls`` and of them ``failed`` (no answer, or 5xx) in all."""
        with self._lock:
            return {
                "in_flight": self._in_flight,
                "max_connections": self._max_connections,
                "calls": self._calls,
                "failed": self._failed,
            }

    def close(self) -> None:
        """Close idle connections; a later call opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            close(pool)

    def _context(self, seconds: float | None) -> dict[str, str]:
        identity = request_id.get()
        headers = {} if identity is None else {"X-Request-ID": identity}
        if seconds is not None:
            headers["X-Request-Timeout"] = f"{seconds:.3f}"
        return headers

    def _url(self, url: str) -> str:
        address = self._address()
        if not address and not urlsplit(url).scheme:
            wanted = f"set {self._setting}" if self._setting else "pass a whole address"
            msg = f"{self.name} has no address to call {url!r} at: {wanted}."
            raise RuntimeError(msg)
        return f"{address.rstrip('/')}{url}" if address else url

    def _address(self) -> str:
        if self._setting is None:
            return self._base_url or ""
        settings = runtime.current().settings
        return str(getattr(settings, self._setting.lower()) or "")

    def _connections(self) -> urllib3.PoolManager:
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                # A parent's sockets stay the parent's: its pool is only forgotten.
                self._pool = pools(maxsize=self._max_connections, block=True)
                self._pid = os.getpid()
            return self._pool


http = Client(name="http")
"""A client without a base address, for calls that are made rarely."""
