"""OpenTelemetry's part of tracing; imported only where its packages are wanted and there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from threadkit.runtime import REQUEST_RECORD

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def provider(service_name: str, exporter: SpanExporter | None) -> TracerProvider:
    """A provider that exports in batches, by a thread that its ``shutdown`` joins."""
    resource = Resource.create({"service.name": service_name})
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    return made


class TracedRequest:
    """One request's span: begun with it, current while the app runs, ended by ``close``."""

    def __init__(self, tracer: Tracer, environ: WSGIEnvironment) -> None:
        headers = {
            name: environ[f"HTTP_{name.upper()}"]
            for name in ("traceparent", "tracestate")
            if f"HTTP_{name.upper()}" in environ
        }
        self._environ = environ
        self._method = str(environ.get("REQUEST_METHOD", ""))
        self._chunks: Iterable[bytes] = ()
        self._span = tracer.start_span(
            self._method,
            context=TraceContextTextMapPropagator().extract(headers),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": self._method,
                "url.path": str(environ.get("PATH_INFO", "")),
                "url.scheme": str(environ.get("wsgi.url_scheme", "")),
            },
        )

    def answer(self, app: WSGIApplication, start_response: StartResponse) -> TracedRequest:
        """Call the application; this object itself is the iterable."""

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            self._span.set_attribute("http.response.status_code", int(status[:3]))
            if status.startswith("5"):
                self._span.set_status(Status(StatusCode.ERROR, status))
            return start_response(status, headers, *exc_info)

        try:
            with use_span(self._span):
                self._chunks = app(self._environ, start)
        except BaseException:
            self._end()
            raise
        return self

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)

    def close(self) -> None:
        """Called by the server after the last byte, or when it gives up."""
        try:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        finally:
            self._end()

    def _end(self) -> None:
        route = getattr(self._environ.get(REQUEST_RECORD), "route", None)
        if route:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)
        self._span.end()
