"""The example resource: what `/v1/items` promises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flask
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from threadkit import background
from threadkit.testing import close

from {{ cookiecutter.package_name }}.app import create_app
from {{ cookiecutter.package_name }}.settings import Settings

TEA = {"name": "tea", "price_cents": 250}


@pytest.fixture
def item(client: FlaskClient) -> TestResponse:
    """An item that exists."""
    return client.post("/v1/items", json=TEA)


def test_a_new_item_is_created_at_its_location(client: FlaskClient) -> None:
    answer = client.post("/v1/items", json=TEA)
    assert answer.status_code == 201
    assert answer.json == {"id": 1, "version": 1, **TEA}
    assert answer.headers["ETag"] == '"1"'
    assert client.get(answer.headers["Location"]).json == answer.json


def test_an_item_that_does_not_exist_is_404(client: FlaskClient) -> None:
    for method in ("GET", "DELETE"):
        assert client.open("/v1/items/1", method=method).status_code == 404
    assert client.patch("/v1/items/1", json={"name": "x"}).status_code == 404


def test_a_patch_changes_only_the_fields_it_names(client: FlaskClient, item: TestResponse) -> None:
    answer = client.patch(item.headers["Location"], json={"price_cents": 300})
    assert answer.json == {"id": 1, "name": "tea", "price_cents": 300, "version": 2}
    assert answer.headers["ETag"] == '"2"'


def test_a_patch_of_the_version_one_knows_is_not_lost(
    client: FlaskClient, item: TestResponse
) -> None:
    place, etag = item.headers["Location"], item.headers["ETag"]
    assert client.patch(place, json={"name": "a"}, headers={"If-Match": etag}).status_code == 200
    late = client.patch(place, json={"name": "b"}, headers={"If-Match": etag})
    assert late.status_code == 412
    assert client.get(place).get_json()["name"] == "a"


@pytest.mark.parametrize(
    ("tag", "status"), [("*", 204), ('"0", "1"', 204), ('W/"1"', 412), ('"2"', 412), ("", 412)]
)
def test_if_match_compares_strongly(
    client: FlaskClient, item: TestResponse, tag: str, status: int
) -> None:
    answer = client.delete(item.headers["Location"], headers={"If-Match": tag})
    assert answer.status_code == status


def test_a_deleted_item_is_gone_and_its_id_does_not_come_back(
    client: FlaskClient, item: TestResponse
) -> None:
    assert client.delete(item.headers["Location"]).status_code == 204
    assert client.get(item.headers["Location"]).status_code == 404
    assert client.post("/v1/items", json=TEA).get_json()["id"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "tea"},
        {**TEA, "name": ""},
        {**TEA, "name": "x" * 201},
        {**TEA, "name": "a\x00b"},
        {**TEA, "price_cents": -1},
        {**TEA, "price_cents": 2**63},
        {**TEA, "price_cents": "250"},
        {**TEA, "price_cents": None},
        {**TEA, "id": 7},
        {**TEA, "version": 7},
    ],
)
def test_an_item_that_is_not_acceptable_is_422(client: FlaskClient, body: object) -> None:
    assert client.post("/v1/items", json=body).status_code == 422


def test_a_price_may_be_written_with_a_fraction_of_nothing(client: FlaskClient) -> None:
    """JSON has one kind of number, and 250.0 is an integer to JSON Schema."""
    answer = client.post("/v1/items", json={"name": "tea", "price_cents": 250.0})
    assert answer.get_json()["price_cents"] == 250


def test_an_empty_patch_is_422(client: FlaskClient, item: TestResponse) -> None:
    assert client.patch(item.headers["Location"], json={}).status_code == 422
    assert client.patch(item.headers["Location"], json={"name": None}).status_code == 422


def test_the_pages_of_a_list_hold_every_item_once(client: FlaskClient) -> None:
    for number in range(7):
        client.post("/v1/items", json={"name": f"item {number}", "price_cents": number})
    seen, after = [], 0
    while after is not None:
        page = client.get(f"/v1/items?limit=3&after={after}").get_json()
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_the_last_page_has_no_next(client: FlaskClient) -> None:
    assert client.get("/v1/items").json == {"items": [], "next": None}
    client.post("/v1/items", json=TEA)
    assert client.get("/v1/items?limit=1").get_json()["next"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "after=-1", "page=2"])
def test_a_query_that_is_not_acceptable_is_422(client: FlaskClient, query: str) -> None:
    assert client.get(f"/v1/items?{query}").status_code == 422


def test_changes_at_the_same_time_are_all_counted(app: flask.Flask) -> None:
    place = app.test_client().post("/v1/items", json=TEA).headers["Location"]

    def change(number: int) -> int:
        return app.test_client().patch(place, json={"price_cents": number}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(change, range(40))) == {200}
    assert app.test_client().get(place).get_json()["version"] == 41


def test_an_overview_holds_the_item_and_its_like(client: FlaskClient) -> None:
    for price in (100, 110, 500):
        client.post("/v1/items", json={"name": f"at {price}", "price_cents": price})
    overview = client.get("/v1/items/1/overview").get_json()
    assert overview["item"]["id"] == 1
    assert [item["id"] for item in overview["related"]] == [2, 3]
    assert overview["price_today"] is None
    assert client.get("/v1/items/9/overview").status_code == 404


def test_an_appraisal_goes_on_after_the_answer(client: FlaskClient) -> None:
    for price in (100, 200, 300):
        client.post("/v1/items", json={"name": f"at {price}", "price_cents": price})
    answer = client.post("/v1/items/1/appraisal")
    assert answer.status_code == 202
    assert background.drain(5).dropped == ()
    assert client.get("/v1/items/1").get_json()["price_cents"] == 250
    assert client.post("/v1/items/9/appraisal").status_code == 404


def test_without_migrations_the_service_names_the_remedy(tmp_path: Path) -> None:
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path}/empty.db"))
    for path in ("/readyz", "/v1/items"):
        answer = app.test_client().get(path)
        assert answer.status_code == 503
        assert "make migrate" in answer.get_json()["detail"]
    close(app)
