"""Typed handlers: what they read is validated, what they return is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient

from threadkit.web import Blueprint, Payload
from threadkit.web.views import operation


def test_a_query_becomes_a_model_with_defaults(client: FlaskClient) -> None:
    assert client.get("/notes").json == {"words": ["", "10"]}
    assert client.get("/notes?word=a&limit=3&tag=x&tag=y").json == {"words": ["a", "3", "x", "y"]}


def test_every_fault_of_a_query_is_listed(client: FlaskClient, problem: Any) -> None:
    document = problem(client.get("/notes?limit=many&colour=red&word=a&word=b"))
    assert document["status"] == 422
    assert {tuple(fault["location"]) for fault in document["errors"]} == {
        ("query", "limit"),
        ("query", "colour"),
        ("query", "word"),
    }


def test_created_names_the_place_and_the_version(client: FlaskClient) -> None:
    answer = client.post("/notes", json={"text": "a"})
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/notes/1"
    assert answer.headers["ETag"] == '"1"'
    assert answer.json == {"text": "a", "stars": 0}


def test_accepted_is_202(client: FlaskClient) -> None:
    assert client.put("/notes/1", json={"text": "a"}).status_code == 202


def test_none_is_204_without_a_body_or_its_type(client: FlaskClient) -> None:
    answer = client.delete("/notes/1")
    assert answer.status_code == 204
    assert answer.data == b""
    assert "Content-Type" not in answer.headers


def test_a_known_version_is_304(client: FlaskClient) -> None:
    answer = client.get("/notes/1", headers={"If-None-Match": '"6", "7"'})
    assert answer.status_code == 304
    assert answer.data == b""
    assert client.get("/notes/1", headers={"If-None-Match": '"6"'}).status_code == 200


def test_a_handler_may_build_its_own_response(client: FlaskClient) -> None:
    assert client.get("/notes/text").data == b"plain"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": None},
        {"text": 1},
        {"text": "a", "stars": "5"},
        {"text": "a", "stars": True},
        {"text": "a", "stars": 1.5},
        {"text": "a", "colour": "red"},
        [],
        "text",
    ],
)
def test_a_body_that_is_not_the_model_is_422(client: FlaskClient, problem: Any, body: Any) -> None:
    assert problem(client.post("/notes", json=body))["status"] == 422


def test_a_handler_without_annotations_is_refused_with_the_remedy() -> None:
    def view(body):  # type: ignore[no-untyped-def]
        return body

    with pytest.raises(TypeError, match="annotate 'body' with a pydantic model"):
        operation(view)


@pytest.mark.parametrize(
    ("rule", "text"),
    [("/<int:number>", "which it does not take"), ("/", "which its path / has not")],
)
def test_a_handler_whose_path_has_other_parameters_is_refused(rule: str, text: str) -> None:
    routes = Blueprint("routes", __name__)

    def view(item_id: int) -> None: ...

    with pytest.raises(TypeError, match=text):
        routes.add_url_rule(rule, view_func=view)


def test_an_async_handler_is_refused() -> None:
    routes = Blueprint("routes", __name__)

    async def view() -> None: ...

    with pytest.raises(TypeError, match="without async"):
        routes.add_url_rule("/", view_func=view)


def test_a_handler_that_does_not_say_what_it_returns_is_refused() -> None:
    def view(body: Payload):  # type: ignore[no-untyped-def]
        return body

    with pytest.raises(TypeError, match="annotate what it returns"):
        operation(view)


class Note(Payload):
    text: str


def liar(view: Callable[[], Any]) -> Blueprint:
    """A blueprint with one route."""
    blueprint = Blueprint("liar", __name__)
    blueprint.get("/lie")(view)
    return blueprint


def a_dict() -> Note:
    return {"text": 1}  # type: ignore[return-value]


def nothing() -> Note:
    return None  # type: ignore[return-value]


def list_of_dicts() -> list[Note]:
    return [{"text": 1}]  # type: ignore[list-item]


def surplus() -> None:
    return Note(text="")  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (a_dict, "a_dict returned dict where its annotation promises Note"),
        (nothing, "nothing returned NoneType where its annotation promises Note"),
        (list_of_dicts, "list_of_dicts returned list where its annotation promises list["),
        (surplus, "surplus returned Note, and its annotation promises no body"),
    ],
)
def test_what_a_handler_does_not_promise_is_not_sent(
    app: flask.Flask,
    problem: Any,
    capfd: pytest.CaptureFixture[str],
    view: Callable[[], Any],
    words: str,
) -> None:
    app.register_blueprint(liar(view))
    assert problem(app.test_client().get("/lie"))["status"] == 500
    assert words in capfd.readouterr().out
