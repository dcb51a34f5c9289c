"""Admission: so many requests run, so many wait for so long, and the rest hear it at once.

Without it a service under overload works through an endless line for clients that have long
given up. It is WSGI middleware outside the framework and needs nothing but the worker's
threads, of which there are more than may run and wait: one is always left to refuse, and to
answer the health checks, which never stand in line.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from threadkit.concurrency import Bulkhead
from threadkit.runtime import REQUEST_RECORD, RequestRecord
from threadkit.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

EXEMPT: Final = frozenset({"/livez", "/readyz"})


class Admission:
    """Wraps a WSGI application; ``Saturated`` for a request that finds no place.

    A place is held until the answer is complete, a stream's until its last byte. The wait
    counts against the request's own time limit. Thread-safe.
    """

    def __init__(self, app: WSGIApplication, settings: Settings) -> None:
        self._app = app
        self._places = Bulkhead(
            "admission",
            max_concurrent=settings.concurrency,
            max_waiting=settings.queue_size,
            max_wait=settings.queue_timeout,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") not in EXEMPT:
            record: RequestRecord = environ[REQUEST_RECORD]
            self._places.acquire()
            record.at_end.append(self._places.release)
        return self._app(environ, start_response)
