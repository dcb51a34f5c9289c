"""``/openapi.json``: OpenAPI 3.1 from the signatures of the handlers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import flask
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import Rule

from threadkit.web.problems import MEDIA_TYPE
from threadkit.web.routing import MAX_ID
from threadkit.web.views import Operation

_REF = "#/components/schemas/{model}"
_PATH_SCHEMAS: dict[str, dict[str, Any]] = {
    "int": {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_ID},
    "float": {"type": "number"},
    "uuid": {"type": "string", "format": "uuid"},
}
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
    },
}
_PARAMETER = re.compile(r"<(?:([^:<>(]+)[^:<>]*:)?([^<>]+)>")
_HEADER = {"schema": {"type": "string"}}


def build(app: flask.Flask, *, title: str, version: str, description: str) -> dict[str, Any]:
    """The document of all typed handlers of ``app``."""
    operations = list(_operations(app))
    schemas, definitions = _schemas([declared for _, _, declared in operations])
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, declared in operations:
        path = _PARAMETER.sub(r"{\2}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(rule, method, declared, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "paths": paths,
        "components": {"schemas": {**definitions, "Problem": _PROBLEM}},
    }


def _operations(app: flask.Flask) -> Iterator[tuple[Rule, str, Operation]]:
    for rule in app.url_map.iter_rules():
        declared = getattr(app.view_functions[rule.endpoint], "operation", None)
        if declared is None:
            continue
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method, declared


Key = tuple[Any, JsonSchemaMode]


def _schemas(operations: list[Operation]) -> tuple[dict[Key, Any], dict[str, Any]]:
    """JSON schemas of all models at once, so that models of one name do not collide."""
    inputs: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = []
    for declared in operations:
        if body := declared.inputs.get("body"):
            inputs.append((body, "validation", TypeAdapter(body)))
        if declared.output is not None:
            inputs.append((id(declared.output), "serialization", declared.output))
    schemas, shared = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    return schemas, shared.get("$defs", {})


def _operation(
    rule: Rule, method: str, declared: Operation, schemas: dict[Key, Any]
) -> dict[str, Any]:
    summary, _, description = (inspect.getdoc(declared.view) or "").partition("\n")
    document: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [rule.endpoint.partition(".")[0]],
        "responses": _responses(rule, method, declared, schemas),
    }
    if summary:
        document["summary"] = summary.rstrip(".")
    if description.strip():
        document["description"] = description.strip()
    if parameters := _parameters(rule, declared):
        document["parameters"] = parameters
    if body := declared.inputs.get("body"):
        content = {"application/json": {"schema": schemas[body, "validation"]}}
        document["requestBody"] = {"required": True, "content": content}
    return document


def _parameters(rule: Rule, declared: Operation) -> list[dict[str, Any]]:
    kinds = {name: kind for kind, name in re.findall(_PARAMETER, rule.rule)}
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _PATH_SCHEMAS.get(kind, {"type": "string", "minLength": 1}),
        }
        for name, kind in kinds.items()
    ]
    for source, place in (("query", "query"), ("headers", "header")):
        if model := declared.inputs.get(source):
            parameters += _model_parameters(model, place)
    return parameters


def _model_parameters(model: type[BaseModel], place: str) -> Iterator[dict[str, Any]]:
    schema = model.model_json_schema(ref_template=_REF)
    required = schema.get("required", [])
    for name, declared in schema.get("properties", {}).items():
        value = _without_null(declared)
        value.pop("title", None)
        description = declared.pop("description", None)
        yield {
            "name": name,
            "in": place,
            "required": name in required,
            "schema": value,
            **({"description": description} if description else {}),
        }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is absent or a string on the wire; null is only our way to say absent."""
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    return options[0] if len(options) == 1 else schema


def _responses(
    rule: Rule, method: str, declared: Operation, schemas: dict[Key, Any]
) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTP_STATUS_CODES[declared.status]}
    if declared.answer_headers:
        success["headers"] = dict.fromkeys(declared.answer_headers, _HEADER)
    if declared.output is not None:
        schema = schemas[id(declared.output), "serialization"]
        success["content"] = {"application/json": {"schema": schema}}
    responses = {str(declared.status): success}
    if method == "GET" and "ETag" in declared.answer_headers:
        responses["304"] = {"description": HTTP_STATUS_CODES[304]}
    for status in sorted(_problem_statuses(rule, declared)):
        responses[str(status)] = {
            "description": HTTP_STATUS_CODES[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
    return responses


def _problem_statuses(rule: Rule, declared: Operation) -> set[int]:
    statuses = {400, 500, 503, 504, *declared.problems}
    if rule.arguments:
        statuses.add(404)
    if "body" in declared.inputs:
        statuses |= {413, 415}
    if declared.inputs:
        statuses.add(422)
    return statuses
