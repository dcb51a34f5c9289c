"""Who may ask what on the admin address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Request, Response

from threadkit.admin import ROUTES, AdminApp, Route
from threadkit.runtime import Runtime

MakeRuntime = Callable[..., Runtime]
TOKEN = "s3cret-töken"


def greet(request: Request, runtime: Runtime, /, *, name: str) -> Response:
    """Greets.

    Not in the index: its pattern has a part that only the asker knows.
    """
    return Response(f"hello {name}")


def change(request: Request, runtime: Runtime, /) -> Response:
    """Changes something."""
    return Response(request.get_data())


def fail(request: Request, runtime: Runtime, /) -> Response:
    """Fails."""
    msg = "an internal"
    raise ValueError(msg)


MORE: dict[str, Route] = {**ROUTES, "/greet/<name>": greet, "POST /change": change, "/fail": fail}
EVERY_PATH = ["/", "/metrics", "/greet/you", "/fail", "/change", "/nowhere", "/livez/", "//livez"]


def problem(response: TestResponse) -> dict[str, Any]:
    assert response.mimetype == "application/problem+json"
    document: dict[str, Any] = response.get_json(force=True)
    assert document["status"] == response.status_code
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert {"type", "title", "detail"} <= document.keys()
    return document


class TestWithoutAToken:
    """On loopback nobody has to identify themselves."""

    @pytest.fixture
    def client(self, make_runtime: MakeRuntime) -> Client:
        """Asks an application with routes of every kind."""
        return Client(AdminApp(make_runtime(), MORE))

    def test_livez_is_alive(self, client: Client) -> None:
        response = client.get("/livez")
        assert (response.status_code, response.get_json()) == (200, {"status": "alive"})

    def test_metrics_are_text_for_prometheus(self, client: Client) -> None:
        response = client.get("/metrics")
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert "# TYPE http_requests_in_flight gauge" in response.text

    def test_the_index_lists_what_can_be_opened(self, client: Client) -> None:
        page = client.get("/").text
        assert '<a href="/metrics">/metrics</a> Numbers of all workers' in page
        assert "/greet" not in page
        assert "/change" not in page

    def test_a_route_gets_the_parts_of_its_path(self, client: Client) -> None:
        assert client.get("/greet/you").text == "hello you"

    def test_a_pattern_names_its_method(self, client: Client) -> None:
        assert client.post("/change", data=b"now").text == "now"
        response = client.get("/change")
        assert (response.status_code, response.headers["Allow"]) == (405, "POST")
        problem(response)
        assert "GET" in client.delete("/livez").headers["Allow"]

    @pytest.mark.parametrize("path", ["/nowhere", "/livez/", "/debug/pprof/", "/%ff"])
    def test_anything_else_is_a_problem_404(self, client: Client, path: str) -> None:
        assert problem(client.get(path))["title"] == "Not Found"

    def test_a_large_body_is_refused(self, client: Client) -> None:
        response = client.post("/change", data=b"x" * 100_000)
        assert problem(response)["status"] == 413

    def test_a_failing_route_tells_no_internals(
        self, client: Client, capfd: pytest.CaptureFixture[str]
    ) -> None:
        response = client.get("/fail")
        assert problem(response)["status"] == 500
        assert "internal" not in response.text.replace("Internal Server Error", "")
        assert "an internal" in capfd.readouterr().out

    def test_a_well_formed_request_id_is_taken_over(self, client: Client) -> None:
        given = client.get("/livez", headers={"X-Request-ID": "mine"})
        other = client.get("/livez", headers={"X-Request-ID": "not mine"})
        assert given.headers["X-Request-ID"] == "mine"
        assert other.headers["X-Request-ID"] != "not mine"

    def test_head_has_no_body(self, client: Client) -> None:
        response = client.head("/livez")
        assert (response.status_code, response.data) == (200, b"")


class TestReadiness:
    """``/readyz`` is the service's own, as on the public address."""

    def test_ready(self, make_runtime: MakeRuntime) -> None:
        response = Client(AdminApp(make_runtime())).get("/readyz")
        assert (response.status_code, response.get_json()) == (200, {"status": "ready"})

    def test_not_ready_says_why(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        runtime.add_check("database", lambda: "the schema is behind: run make migrate")
        response = Client(AdminApp(runtime)).get("/readyz")
        document = problem(response)
        assert document["status"] == 503
        assert document["checks"] == {"database": "the schema is behind: run make migrate"}
        assert response.headers["Retry-After"] == "1"


class TestWithAToken:
    """Once it is set, everything but the probes needs it, and hides without."""

    @pytest.fixture
    def client(self, make_runtime: MakeRuntime) -> Client:
        """Asks an application whose token is ``TOKEN``."""
        return Client(AdminApp(make_runtime(admin_token=TOKEN), MORE))

    @pytest.mark.parametrize("path", ["/livez", "/readyz"])
    def test_probes_need_none(self, client: Client, path: str) -> None:
        assert client.get(path).status_code == 200

    @pytest.mark.parametrize("path", EVERY_PATH)
    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    @pytest.mark.parametrize(
        "authorization",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer wrong",
            f"Basic {TOKEN}",
            TOKEN,
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Bearer x, Bearer {TOKEN}",
        ],
    )
    def test_without_it_every_other_path_looks_missing(
        self, client: Client, path: str, method: str, authorization: str | None
    ) -> None:
        headers = {} if authorization is None else {"Authorization": utf8(authorization)}
        response = client.open(path, method=method, headers=headers)
        document = problem(response)
        assert document.pop("request_id")
        assert document == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "There is nothing at this path.",
        }
        assert "Allow" not in response.headers

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_with_it_all_is_there(self, client: Client, scheme: str) -> None:
        headers = {"Authorization": utf8(f"{scheme} {TOKEN}")}
        assert client.get("/metrics", headers=headers).status_code == 200
        assert client.get("/greet/you", headers=headers).text == "hello you"
        assert client.get("/nowhere", headers=headers).status_code == 404

    def test_an_empty_token_is_none(self, make_runtime: MakeRuntime) -> None:
        assert Client(AdminApp(make_runtime(admin_token=""))).get("/metrics").status_code == 200


def utf8(header: str) -> str:
    """As a client's UTF-8 arrives: WSGI reads header bytes as Latin-1."""
    return header.encode().decode("latin-1")
