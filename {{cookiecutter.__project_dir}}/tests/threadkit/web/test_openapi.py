"""``/openapi.json`` says what the handlers' signatures say."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/openapi.json").get_json()
    return document


def test_it_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1.")


def test_every_route_of_a_typed_handler_is_there(document: dict[str, Any]) -> None:
    assert {path: set(methods) for path, methods in document["paths"].items()} == {
        "/notes": {"get", "post"},
        "/notes/{note_id}": {"get", "put", "delete"},
        "/notes/text": {"get"},
    }


def test_parameters_come_from_the_path_and_the_query(document: dict[str, Any]) -> None:
    (path,) = document["paths"]["/notes/{note_id}"]["get"]["parameters"]
    assert (path["name"], path["in"], path["required"]) == ("note_id", "path", True)
    assert path["schema"]["maximum"] == 2**63 - 1
    query = {p["name"]: p for p in document["paths"]["/notes"]["get"]["parameters"]}
    assert query["limit"]["schema"] == {"type": "integer", "default": 10}
    assert query["tag"]["schema"]["type"] == "array"


def test_answers_name_their_status_their_model_and_their_headers(
    document: dict[str, Any],
) -> None:
    created = document["paths"]["/notes"]["post"]["responses"]["201"]
    assert created["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Note"}
    assert set(created["headers"]) == {"Location", "ETag"}
    assert "content" not in document["paths"]["/notes/{note_id}"]["delete"]["responses"]["204"]
    assert "304" in document["paths"]["/notes/{note_id}"]["get"]["responses"]


def test_problems_are_those_that_the_route_can_answer(document: dict[str, Any]) -> None:
    assert set(document["paths"]["/notes"]["post"]["responses"]) == {
        *("201", "400", "413", "415", "422"),
        *("500", "503", "504"),
    }
