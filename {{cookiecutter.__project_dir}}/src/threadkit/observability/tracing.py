"""Optional OpenTelemetry: one server span a request, joined to the caller's trace.

Off unless the standard variable ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set; the packages come
with the extra ``tracing``. The SDK reads its other standard variables itself
(``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER``, …).

    tracing = Tracing.from_environment("shop")
    if tracing is not None:
        app.wsgi_app = tracing.wrap(app.wsgi_app)
        runtime.add("tracing", tracing)      # its export thread starts after the fork
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from threadkit.settings import SettingsError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """Spans of this service. A resource of the runtime; ``wrap`` may be called before.

    ``exporter`` replaces the one of the standard variables, as a test does.
    """

    def __init__(self, service_name: str, *, exporter: Any = None) -> None:
        self._service_name = service_name
        self._exporter = exporter
        self._spans = importlib.import_module("threadkit.observability.spans")
        self._provider: Any = None
        self._tracer: Any = None

    def __repr__(self) -> str:
        return f"<Tracing {self._service_name!r} {'on' if self._tracer else 'not started'}>"

    @classmethod
    def from_environment(
        cls, service_name: str, environ: Mapping[str, str] = os.environ
    ) -> Tracing | None:
        """Tracing where the environment asks for it; ``SettingsError`` without the packages."""
        endpoint = next((name for name in ENDPOINTS if environ.get(name)), None)
        if endpoint is None or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return None
        try:
            return cls(environ.get("OTEL_SERVICE_NAME") or service_name)
        except ImportError as error:
            fault = (
                f"{endpoint} is set, but {error.name} is not installed: install the extra "
                "'tracing' (pip install '.[tracing]'), or unset the variable"
            )
            raise SettingsError([fault]) from error

    def start(self) -> None:
        """Start exporting; the SDK's thread belongs to this process."""
        self._provider = self._spans.provider(self._service_name, self._exporter)
        self._tracer = self._provider.get_tracer("threadkit")

    def abandon(self) -> None:
        """Forget the parent's thread and queue."""
        self._provider = self._tracer = None

    def close(self) -> None:
        """Export what is left and join the SDK's thread."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is not None:
            provider.shutdown()

    def wrap(self, app: WSGIApplication) -> WSGIApplication:
        """``app`` with a span around each request, until its last byte."""

        def traced(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            tracer = self._tracer
            if tracer is None:
                return app(environ, start_response)
            request = self._spans.TracedRequest(tracer, environ)
            answer: Iterable[bytes] = request.answer(app, start_response)
            return answer

        return traced


def context_variables() -> tuple[ContextVar[Any], ...]:
    """What has to go along for a background task to stay in the request's trace."""
    try:
        context = importlib.import_module("opentelemetry.context")
    except ImportError:
        return ()
    # A private name of opentelemetry-api, which has no public one for it; without it the
    # task starts a trace of its own.
    variable = getattr(getattr(context, "_RUNTIME_CONTEXT", None), "_current_context", None)
    return (variable,) if isinstance(variable, ContextVar) else ()
