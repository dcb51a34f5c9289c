"""A small service of the kit alone: no database, a few handlers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient
from pydantic import BaseModel, Field

from threadkit import web
from threadkit.observability import logs
from threadkit.runtime import Runtime
from threadkit.settings import Settings
from threadkit.web import Accepted, Answer, Blueprint, Created, Payload

LIMIT = 1000


class Note(Payload):
    """A body with one field."""

    text: str
    stars: int = 0


class Find(Payload):
    """A query."""

    word: str = ""
    limit: int = 10
    tag: list[str] = Field(default_factory=list)


class Found(BaseModel):
    """An answer."""

    words: list[str]


def blueprint() -> Blueprint:
    """Handlers of every kind that the kit knows."""
    notes = Blueprint("notes", __name__, url_prefix="/notes")

    @notes.get("")
    def find(query: Find) -> Found:
        return Found(words=[query.word, str(query.limit), *query.tag])

    @notes.post("")
    def create(body: Note) -> Created[Note]:
        return Created(body, location="/notes/1", etag="1")

    @notes.get("/<int:note_id>")
    def read(note_id: int) -> Answer[Note]:
        return Answer(Note(text=str(note_id)), etag="7")

    @notes.put("/<int:note_id>")
    def queue(note_id: int, body: Note) -> Accepted[Note]:
        del note_id
        return Accepted(body)

    @notes.delete("/<int:note_id>")
    def delete(note_id: int) -> None:
        del note_id

    @notes.get("/text")
    def text() -> flask.Response:
        return flask.Response("plain", mimetype="text/plain")

    return notes


@pytest.fixture
def settings() -> Settings:
    return Settings(database_url="sqlite:///unused.db", max_body_bytes=LIMIT)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    logs.configure(settings)
    runtime = Runtime(settings)
    yield runtime
    runtime.close()


@pytest.fixture
def app(runtime: Runtime) -> flask.Flask:
    app = flask.Flask("notebook", static_folder=None)
    web.install(app, runtime)
    app.register_blueprint(blueprint())
    return app


@pytest.fixture
def client(app: flask.Flask) -> FlaskClient:
    return app.test_client()


def problem(answer: Any) -> dict[str, Any]:
    """The document of a problem, known to be one."""
    assert answer.content_type == "application/problem+json"
    document: dict[str, Any] = answer.get_json()
    assert document["status"] == answer.status_code
    assert document["request_id"] == answer.headers["X-Request-ID"]
    assert document["type"]
    assert document["title"]
    assert document["detail"]
    return document


@pytest.fixture(name="problem")
def problem_fixture() -> Any:
    return problem
