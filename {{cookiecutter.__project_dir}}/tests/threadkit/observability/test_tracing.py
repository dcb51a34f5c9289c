"""A span a request, in the caller's trace; off unless asked for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from threadkit.observability import tracing
from threadkit.observability.tracing import Tracing
from threadkit.runtime import REQUEST_RECORD
from threadkit.settings import SettingsError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def test_it_is_off_unless_an_endpoint_is_set() -> None:
    assert Tracing.from_environment("shop", {}) is None
    assert Tracing.from_environment("shop", {**ENDPOINT, "OTEL_SDK_DISABLED": "true"}) is None


def test_missing_packages_are_named_with_the_extra_that_brings_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "threadkit.observability.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set.*'tracing'"):
        Tracing.from_environment("shop", ENDPOINT)


class TestWithTheSdk:
    """What the exporter receives."""

    @pytest.fixture
    def exporter(self) -> Any:
        """Keeps spans in memory."""
        pytest.importorskip("opentelemetry.sdk", reason="needs the extra 'tracing'")
        memory = "opentelemetry.sdk.trace.export.in_memory_span_exporter"
        return pytest.importorskip(memory).InMemorySpanExporter()

    @pytest.fixture
    def traced(self, exporter: Any) -> Iterator[Tracing]:
        """Started, and closed by the test or after it."""
        made = Tracing("shop", exporter=exporter)
        made.start()
        yield made
        made.close()

    def test_a_request_is_a_server_span_in_the_callers_trace(
        self, traced: Tracing, exporter: Any
    ) -> None:
        environ = EnvironBuilder(
            path="/v1/items/7", headers=[("traceparent", f"00-{TRACE}-{PARENT}-01")]
        ).get_environ()
        environ[REQUEST_RECORD] = SimpleNamespace(route="/v1/items/<int:item_id>")
        run_wsgi_app(traced.wrap(answering("200 OK")), environ, buffered=True)
        traced.close()
        (span,) = exporter.get_finished_spans()
        assert format(span.context.trace_id, "032x") == TRACE
        assert format(span.parent.span_id, "016x") == PARENT
        assert span.name == "GET /v1/items/<int:item_id>"
        assert span.kind.name == "SERVER"
        assert span.resource.attributes["service.name"] == "shop"
        assert span.attributes["http.response.status_code"] == 200
        assert span.status.status_code.name == "UNSET"

    def test_a_span_lasts_until_the_last_byte(self, traced: Tracing, exporter: Any) -> None:
        environ = EnvironBuilder().get_environ()
        chunks = traced.wrap(answering("200 OK"))(environ, lambda *_: lambda _: None)
        assert b"".join(chunks) == b"body"
        traced._provider.force_flush()
        assert exporter.get_finished_spans() == ()
        chunks.close()  # type: ignore[attr-defined]
        traced._provider.force_flush()
        assert len(exporter.get_finished_spans()) == 1

    def test_server_errors_and_exceptions_mark_the_span(
        self, traced: Tracing, exporter: Any
    ) -> None:
        def failing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            msg = "broken"
            raise ValueError(msg)

        for app in (answering("503 Service Unavailable"), failing):
            try:
                run_wsgi_app(traced.wrap(app), EnvironBuilder().get_environ(), buffered=True)
            except ValueError:
                continue
        traced.close()
        spans = exporter.get_finished_spans()
        assert [span.status.status_code.name for span in spans] == ["ERROR", "ERROR"]

    def test_a_malformed_traceparent_starts_a_trace(self, traced: Tracing, exporter: Any) -> None:
        environ = EnvironBuilder(headers=[("traceparent", "00-zz-zz-01")]).get_environ()
        run_wsgi_app(traced.wrap(answering("200 OK")), environ, buffered=True)
        traced.close()
        assert exporter.get_finished_spans()[0].parent is None

    def test_a_closed_one_lets_requests_through_and_leaves_no_thread(self, traced: Tracing) -> None:
        before = set(threading.enumerate())
        traced.close()
        status = run_wsgi_app(traced.wrap(answering("200 OK")), EnvironBuilder().get_environ())[1]
        assert status == "200 OK"
        assert set(threading.enumerate()) <= before

    def test_the_trace_has_a_variable_to_take_along(self, exporter: Any) -> None:
        """By a private name of opentelemetry-api; this fails where an upgrade moves it."""
        assert len(tracing.context_variables()) == 1


def answering(status: str) -> WSGIApplication:
    """An application that always answers with ``status``."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "text/plain")])
        return [b"body"]

    return app
