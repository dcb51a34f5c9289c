"""Bodies are read whole or not at all, and JSON is JSON."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask.testing import FlaskClient

from threadkit.errors import BadRequest, ContentTooLarge
from threadkit.web.body import StrictBody

JSON = "application/json"
LIMIT = 1000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{'text': 'a'}",
        b'{"text": "a"} {}',
        b'{"text": NaN}',
        b'{"text": "a", "stars": Infinity}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"[" * 900,
    ],
)
def test_what_is_not_json_is_400(client: FlaskClient, problem: Any, data: bytes) -> None:
    assert problem(client.post("/notes", data=data, content_type=JSON))["status"] == 400


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/xml", "application/json; charset=latin-1"]
)
def test_another_content_type_is_415(client: FlaskClient, problem: Any, kind: str) -> None:
    answer = client.post("/notes", data=b'{"text": "a"}', content_type=kind)
    assert problem(answer)["status"] == 415


@pytest.mark.parametrize("kind", [JSON, "application/json; charset=UTF-8", "application/x+json"])
def test_every_json_type_is_read(client: FlaskClient, kind: str) -> None:
    answer = client.post("/notes", data=b'{"text": "a"}', content_type=kind)
    assert answer.status_code == 201


def test_a_body_over_the_limit_is_413(client: FlaskClient, problem: Any) -> None:
    document = b'{"text": "%s"}' % (b"a" * LIMIT)
    assert problem(client.post("/notes", data=document, content_type=JSON))["status"] == 413


def test_a_chunked_body_over_the_limit_is_413(client: FlaskClient, problem: Any) -> None:
    document = b'{"text": "%s"}' % (b"a" * LIMIT)
    answer = client.post(
        "/notes",
        input_stream=io.BytesIO(document),
        content_type=JSON,
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert problem(answer)["status"] == 413


def test_a_body_of_exactly_the_limit_is_read(client: FlaskClient) -> None:
    document = b'{"text": "%s"}' % (b"a" * (LIMIT - len(b'{"text": ""}')))
    assert len(document) == LIMIT
    assert client.post("/notes", data=document, content_type=JSON).status_code == 201


def test_a_body_shorter_than_announced_is_not_taken_for_a_whole_one() -> None:
    body = StrictBody(io.BytesIO(b"abc"), limit=10, expected=5)
    with pytest.raises(BadRequest, match="after 3 of 5 bytes"):
        body.read()


def test_no_more_than_announced_is_read() -> None:
    stream = io.BytesIO(b"abcdef")
    assert StrictBody(stream, limit=10, expected=3).read() == b"abc"
    assert stream.read() == b"def"


def test_the_limit_holds_for_every_way_to_read() -> None:
    body = io.BufferedReader(StrictBody(io.BytesIO(b"a" * 11), limit=10, expected=None))
    with pytest.raises(ContentTooLarge):
        for _ in range(11):
            body.read(1)


def test_what_the_server_cannot_parse_is_400() -> None:
    class Chunks(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            del size
            msg = "invalid chunk size"
            raise ValueError(msg)

    with pytest.raises(BadRequest, match="malformed"):
        StrictBody(Chunks(), limit=10, expected=None).read()


def test_a_broken_connection_is_400() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            del size
            raise ConnectionResetError

    with pytest.raises(BadRequest, match="broke"):
        StrictBody(Broken(), limit=10, expected=None).read()
