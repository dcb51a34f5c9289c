"""Every route and every kind of error over HTTP, on each database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3

from ..servers.databases import KINDS
from ..servers.service import Service

Answer = urllib3.BaseHTTPResponse
NewDatabase = Callable[..., str]

LARGEST_BODY = 300_000
ITEM = {"name": "tea", "price_cents": 350}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", params=KINDS)
def service(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: NewDatabase,
) -> Iterator[Service]:
    """One service for all tests of a database; none of them depends on what others left."""
    environ = {
        "DATABASE_URL": new_database(request.param),
        "MAX_BODY_BYTES": str(LARGEST_BODY),
    }
    made = Service(tmp_path_factory.mktemp("api") / request.param, environ)
    try:
        yield made.wait_until_ready()
    finally:
        status = made.stop()
    assert status == 0
    assert made.left_behind() == []
    assert [r for r in made.records() if r["level"] in ("error", "critical")] == []


@pytest.fixture
def item(service: Service) -> dict[str, Any]:
    """A fresh item."""
    return create(service)


def create(service: Service, **changes: Any) -> dict[str, Any]:
    answer = service.ask("POST", "/v1/items", json={**ITEM, **changes})
    assert answer.status == 201, answer.data
    created: dict[str, Any] = answer.json()
    return created


def problem(answer: Answer, status: int) -> dict[str, Any]:
    """The problem document of an answer, which has to have that status."""
    assert answer.status == status, answer.data
    assert answer.headers["Content-Type"].partition(";")[0] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= document.keys()
    assert document["status"] == status
    assert document["request_id"] == answer.headers["X-Request-ID"]
    assert "Traceback" not in document["detail"]
    return document


class TestItems:
    """The example resource."""

    def test_an_item_is_created_with_its_place_and_version(self, service: Service) -> None:
        answer = service.ask("POST", "/v1/items", json=ITEM)
        assert answer.status == 201
        created = answer.json()
        assert created.keys() == {"id", "name", "price_cents", "version"}
        assert (created["name"], created["price_cents"]) == ("tea", 350)
        assert answer.headers["Location"].endswith(f"/v1/items/{created['id']}")
        assert re.fullmatch(r'"[^"]+"', answer.headers["ETag"])
        read = service.ask("GET", answer.headers["Location"])
        assert read.json() == created
        assert read.headers["ETag"] == answer.headers["ETag"]

    @pytest.mark.parametrize("name", ["日本 🍵", 'a "b" \\ c', "' OR 1=1 --", "x" * 200, "é\u0301"])
    def test_names_come_back_as_they_were(self, service: Service, name: str) -> None:
        created = create(service, name=name)
        assert service.ask("GET", f"/v1/items/{created['id']}").json()["name"] == name

    def test_the_largest_price_comes_back_as_it_was(self, service: Service) -> None:
        assert create(service, price_cents=2**63 - 1)["price_cents"] == 2**63 - 1

    def test_a_patch_changes_what_it_names_and_the_version(
        self, service: Service, item: dict[str, Any]
    ) -> None:
        path = f"/v1/items/{item['id']}"
        before = service.ask("GET", path).headers["ETag"]
        answer = service.ask("PATCH", path, json={"price_cents": 1})
        assert answer.status == 200
        assert answer.json() == {**item, "price_cents": 1, "version": answer.json()["version"]}
        assert answer.json()["version"] != item["version"]
        assert answer.headers["ETag"] != before
        assert service.ask("GET", path).json() == answer.json()

    def test_if_match_lets_only_the_known_version_be_changed(
        self, service: Service, item: dict[str, Any]
    ) -> None:
        path = f"/v1/items/{item['id']}"
        known = {"If-Match": service.ask("GET", path).headers["ETag"]}
        change = {"name": "green tea"}
        assert service.ask("PATCH", path, json=change, headers=known).status == 200
        problem(service.ask("PATCH", path, json={"name": "lost"}, headers=known), 412)
        problem(service.ask("DELETE", path, headers=known), 412)
        assert service.ask("GET", path).json()["name"] == "green tea"
        anything = {"If-Match": "*"}
        assert service.ask("PATCH", path, json=change, headers=anything).status == 200
        now = {"If-Match": service.ask("GET", path).headers["ETag"]}
        assert service.ask("DELETE", path, headers=now).status == 204

    def test_a_deleted_item_is_gone(self, service: Service, item: dict[str, Any]) -> None:
        path = f"/v1/items/{item['id']}"
        answer = service.ask("DELETE", path)
        assert (answer.status, answer.data) == (204, b"")
        for method in ("GET", "DELETE"):
            problem(service.ask(method, path), 404)
        problem(service.ask("PATCH", path, json={"name": "x"}), 404)

    def test_pages_show_every_item_once_and_in_order(self, service: Service) -> None:
        made = [create(service, name=f"page {number}")["id"] for number in range(7)]
        seen: list[int] = []
        after: int | None = made[0] - 1
        while after is not None:
            page = service.ask("GET", f"/v1/items?limit=3&after={after}").json()
            assert page.keys() == {"items", "next"}
            assert len(page["items"]) <= 3
            seen += [found["id"] for found in page["items"]]
            after = page["next"]
        assert seen == sorted(set(seen))
        assert set(made) <= set(seen)

    def test_head_is_get_without_a_body(self, service: Service, item: dict[str, Any]) -> None:
        path = f"/v1/items/{item['id']}"
        head, get = service.ask("HEAD", path), service.ask("GET", path)
        assert (head.status, head.data) == (200, b"")
        assert head.headers["ETag"] == get.headers["ETag"]


class TestDocumentation:
    """What the service says about itself."""

    def test_openapi_names_every_route(self, service: Service) -> None:
        document = service.ask("GET", "/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        paths = document["paths"]
        assert {"get", "post"} <= paths["/v1/items"].keys()
        (one,) = (path for path in paths if re.fullmatch(r"/v1/items/\{\w+\}", path))
        assert {"get", "patch", "delete"} <= paths[one].keys()

    def test_docs_need_nobody_else(self, service: Service) -> None:
        answer = service.ask("GET", "/docs")
        if answer.status in (301, 302, 307, 308):
            answer = service.ask("GET", answer.headers["Location"].removeprefix(service.url))
        assert answer.status == 200
        page = answer.data.decode()
        assert "text/html" in answer.headers["Content-Type"]
        loaded = re.findall(r'(?:src|href)="([^"#]+)"', page)
        assert loaded
        assert not any(re.match(r"(https?:)?//", address) for address in loaded)
        base = "/docs/"
        for address in loaded:
            found = service.ask("GET", address if address.startswith("/") else base + address)
            assert found.status == 200, address


BODIES: list[tuple[str, int, bytes]] = [
    ("nothing", 400, b""),
    ("not json", 400, b"{"),
    ("trailing", 400, b'{"name": "a", "price_cents": 1} x'),
    ("NaN", 400, b'{"name": "a", "price_cents": NaN}'),
    ("Infinity", 400, b'{"name": "a", "price_cents": -Infinity}'),
    ("single quotes", 400, b"{'name': 'a'}"),
    ("200 kB of brackets", 400, b"[" * 200_000),
    ("200 kB of objects", 400, b'{"a":' * 40_000),
    ("invalid UTF-8", 400, b'{"name": "\xff", "price_cents": 1}'),
    ("lone surrogate", 400, b'{"name": "\\ud800", "price_cents": 1}'),
    ("UTF-16", 400, '{"name": "a", "price_cents": 1}'.encode("utf-16")),
    ("a list", 422, b"[]"),
    ("a string", 422, b'"tea"'),
    ("null", 422, b"null"),
    ("a field too few", 422, b'{"name": "a"}'),
    ("an unknown field", 422, b'{"name": "a", "price_cents": 1, "id": 7}'),
    ("a text as price", 422, b'{"name": "a", "price_cents": "1"}'),
    ("a fraction", 422, b'{"name": "a", "price_cents": 1.5}'),
    ("a negative price", 422, b'{"name": "a", "price_cents": -1}'),
    ("a price too large", 422, b'{"name": "a", "price_cents": 9223372036854775808}'),
    ("a truth", 422, b'{"name": "a", "price_cents": true}'),
    ("no name", 422, b'{"name": "", "price_cents": 1}'),
    ("a long name", 422, b'{"name": "' + b"x" * 201 + b'", "price_cents": 1}'),
    ("a NUL in the name", 422, b'{"name": "a\\u0000b", "price_cents": 1}'),
]


class TestErrors:
    """Problem details for everything that is wrong, and no 500 for anything."""

    @pytest.mark.parametrize(
        ("status", "body"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES]
    )
    def test_a_body_that_is_wrong(self, service: Service, status: int, body: bytes) -> None:
        document = problem(service.ask("POST", "/v1/items", body=body, headers=JSON), status)
        assert ("errors" in document) == (status == 422)

    def test_a_number_of_five_thousand_digits(self, service: Service) -> None:
        """Nobody says whether such a number is malformed or unacceptable; a fault it is not."""
        body = b'{"name": "a", "price_cents": 1' + b"0" * 5000 + b"}"
        answer = service.ask("POST", "/v1/items", body=body, headers=JSON)
        problem(answer, 422 if answer.status == 422 else 400)

    def test_every_fault_of_a_body_is_named(self, service: Service) -> None:
        body = {"name": "", "price_cents": -1, "colour": "green"}
        errors = problem(service.ask("POST", "/v1/items", json=body), 422)["errors"]
        places = {tuple(error["location"]) for error in errors}
        assert places == {("body", "name"), ("body", "price_cents"), ("body", "colour")}

    @pytest.mark.parametrize("body", [{}, {"id": 3}, {"version": 1}, {"price_cents": None}])
    def test_a_patch_that_is_wrong(
        self, service: Service, item: dict[str, Any], body: dict[str, Any]
    ) -> None:
        problem(service.ask("PATCH", f"/v1/items/{item['id']}", json=body), 422)

    @pytest.mark.parametrize(
        "query", ["limit=0", "limit=101", "limit=x", "limit=", "after=-1", "after=x", "colour=red"]
    )
    def test_a_query_that_is_wrong(self, service: Service, query: str) -> None:
        problem(service.ask("GET", f"/v1/items?{query}"), 422)

    @pytest.mark.parametrize(
        "content_type",
        [None, "text/plain", "application/x-www-form-urlencoded", "application/xml", "json"],
    )
    def test_a_content_type_that_is_not_read(
        self, service: Service, content_type: str | None
    ) -> None:
        headers = {} if content_type is None else {"Content-Type": content_type}
        answer = service.ask("POST", "/v1/items", body=json.dumps(ITEM).encode(), headers=headers)
        problem(answer, 415)

    @pytest.mark.parametrize(
        "content_type", ["application/json; charset=utf-8", "Application/JSON"]
    )
    def test_a_content_type_that_is(self, service: Service, content_type: str) -> None:
        headers = {"Content-Type": content_type}
        answer = service.ask("POST", "/v1/items", body=json.dumps(ITEM).encode(), headers=headers)
        assert answer.status == 201

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/nowhere",
            "/v1",
            "/v1/items/",
            "/v1//items",
            "/livez/",
            "/v1/items/999999999",
            "/v1/items/9223372036854775807",
            "/v1/items/9223372036854775808",
            "/v1/items/99999999999999999999999999999999",
            "/v1/items/" + "9" * 3000,
            "/v1/items/-1",
            "/v1/items/1.0",
            "/v1/items/abc",
            "/v1/items/1/",
            "/V1/items",
            "/metrics",
        ],
    )
    def test_what_is_not_there(self, service: Service, path: str) -> None:
        problem(service.ask("GET", path), 404)

    def test_a_path_that_is_not_utf_8(self, service: Service) -> None:
        answer = service.raw(b"GET /v1/items/%ff HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert answer.split(b" ")[1] in (b"400", b"404")
        assert b"application/problem+json" in answer

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PUT", "/v1/items"),
            ("DELETE", "/v1/items"),
            ("POST", "/v1/items/1"),
            ("POST", "/livez"),
        ],
    )
    def test_a_method_that_is_not_allowed(self, service: Service, method: str, path: str) -> None:
        answer = service.ask(method, path)
        problem(answer, 405)
        allowed = set(answer.headers["Allow"].replace(" ", "").split(","))
        assert "GET" in allowed
        assert method not in allowed

    def test_a_body_too_large_by_its_length(self, service: Service) -> None:
        head = b"POST /v1/items HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = service.raw(head + b"Content-Length: 999999999\r\n\r\n{")
        assert answer.split(b" ")[1] == b"413"
        assert b"application/problem+json" in answer

    @pytest.mark.parametrize("size", [LARGEST_BODY + 1, 2 * LARGEST_BODY])
    def test_a_body_too_large_in_chunks(self, service: Service, size: int) -> None:
        head = (
            b"POST /v1/items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        # The whole document fits, what follows it does not: it must not be cut off.
        document = json.dumps(ITEM).encode()
        document += b" " * (size - len(document))
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(document), document)
        answer = service.raw(head + chunks)
        assert answer.split(b" ")[1] == b"413"
        assert b"application/problem+json" in answer

    def test_a_body_in_chunks_that_is_not_too_large(self, service: Service) -> None:
        body = iter([b'{"name": "chunks",', b' "price_cents": 1}'])
        answer = service.ask("POST", "/v1/items", body=body, headers=JSON, chunked=True)
        assert answer.status == 201

    def test_every_answer_has_the_headers_that_protect_it(self, service: Service) -> None:
        for path in ("/v1/items", "/nowhere", "/livez"):
            answer = service.ask("GET", path)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "Server" not in answer.headers or "Python" not in answer.headers["Server"]
