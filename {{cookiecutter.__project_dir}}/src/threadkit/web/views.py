"""Handlers that declare what they read and return, as plain annotated functions.

    @items.patch("/<int:item_id>")
    def rename(item_id: int, body: ItemPatch, headers: Preconditions) -> Answer[ItemView]: ...

Beside the path's own parameters a handler may take ``body`` (a JSON document), ``query`` and
``headers``, each annotated with a pydantic model. The return annotation is the answer's
model. Validation and the OpenAPI document both come from there, so they cannot disagree.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flask
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from threadkit.errors import Invalid
from threadkit.limits import ROUTED
from threadkit.web.answers import Answer
from threadkit.web.body import json_body, query_values

SOURCES = ("body", "query", "headers")


@dataclass(frozen=True, slots=True)
class Operation:
    """What the signature of one handler says."""

    view: Callable[..., Any]
    inputs: dict[str, type[BaseModel]]
    output: TypeAdapter[Any] | None
    """None where there is no body, or where the handler builds its own response."""
    body_type: Any = None
    """What the annotation promises: a class, or a form such as ``list[Item]``."""
    status: int = 200
    answer_headers: tuple[str, ...] = ()
    problems: tuple[int, ...] = field(default=())

    def __call__(self, **path: Any) -> flask.Response:
        """Read, validate, call, answer."""
        request = flask.request
        for source, model in self.inputs.items():
            path[source] = _READERS[source](model, request)
        return self._respond(self.view(**path), request)

    def _respond(self, result: Any, request: flask.Request) -> flask.Response:
        if isinstance(result, flask.Response):
            return result
        if result is None and self.output is None:
            response = flask.Response(status=204)
            del response.headers["Content-Type"]
            return response
        body, status = result, self.status
        if isinstance(result, Answer):
            body, status = result.body, result.status
        response = flask.Response(self._encode(body), status=status, mimetype="application/json")
        if isinstance(result, Answer):
            if result.location is not None:
                response.headers["Location"] = result.location
            if result.etag is not None:
                response.set_etag(result.etag)
                if request.method in ("GET", "HEAD"):
                    response.make_conditional(request)
        return response

    def _encode(self, body: Any) -> bytes:
        # What the document promises must not be sent in another shape: that is a bug here,
        # and callers find it a week later.
        name, kind = self.view.__qualname__, type(body).__name__
        if self.output is None:
            msg = f"{name} returned {kind}, and its annotation promises no body: annotate {kind}."
            raise TypeError(msg)
        promised = self.body_type
        if isinstance(promised, type) and not isinstance(body, promised):
            msg = f"{name} returned {kind} where its annotation promises {promised.__name__}."
            raise TypeError(msg)
        try:
            return self.output.dump_json(body, by_alias=True, warnings="error")
        except PydanticSerializationError as error:
            msg = f"{name} returned {kind} where its annotation promises {promised}: {error}"
            raise TypeError(msg) from error


def operation(view: Callable[..., Any], *, problems: tuple[int, ...] = ()) -> Operation:
    """Read a handler's signature; ``TypeError`` where it cannot be served."""
    hints = typing.get_type_hints(view)
    inputs: dict[str, type[BaseModel]] = {}
    for name in inspect.signature(view).parameters:
        if name not in SOURCES:
            continue
        model = hints.get(name)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            msg = (
                f"{view.__qualname__}: annotate {name!r} with a pydantic model, "
                f"so that the kit can validate it; it has {model!r}."
            )
            raise TypeError(msg)
        inputs[name] = model
    if "return" not in hints:
        msg = (
            f"{view.__qualname__}: annotate what it returns: a pydantic model, Answer[Model], "
            "None for 204, or flask.Response where it builds the answer itself."
        )
        raise TypeError(msg)
    return _with_output(view, inputs, hints["return"], problems)


def _with_output(
    view: Callable[..., Any],
    inputs: dict[str, type[BaseModel]],
    returned: Any,
    problems: tuple[int, ...],
) -> Operation:
    if returned is types.NoneType:
        return Operation(view, inputs, None, status=204, problems=problems)
    if isinstance(returned, type) and issubclass(returned, flask.Response):
        return Operation(view, inputs, None, problems=problems)
    origin = typing.get_origin(returned)
    if isinstance(origin, type) and issubclass(origin, Answer):
        (body,) = typing.get_args(returned)
        return Operation(
            view, inputs, TypeAdapter(body), body, origin.status, origin.headers, problems
        )
    return Operation(view, inputs, TypeAdapter(returned), returned, problems=problems)


def check_path(view: Callable[..., Any], rule: str) -> None:
    """Refuse a handler whose parameters are not those of its path; ``TypeError``."""
    name = view.__qualname__
    if inspect.iscoroutinefunction(view):
        msg = f"{name}: write it without async; each request has a thread of its own here."
        raise TypeError(msg)
    wanted = set(re.findall(r"<(?:[^<>:]+:)?([^<>]+)>", rule))
    taken = set(inspect.signature(view).parameters) - set(SOURCES)
    if missing := sorted(wanted - taken):
        msg = f"{name}: its path {rule} has {', '.join(missing)}, which it does not take."
        raise TypeError(msg)
    if surplus := sorted(taken - wanted):
        msg = (
            f"{name}: it takes {', '.join(surplus)}, which its path {rule} has not; "
            f"beside the path's own a handler takes {', '.join(SOURCES)}."
        )
        raise TypeError(msg)


def as_view(declared: Operation) -> Callable[..., flask.Response]:
    """A Flask view function that keeps the handler's name and carries its ``Operation``."""

    @functools.wraps(declared.view)
    def view(**path: Any) -> flask.Response:
        return declared(**path)

    view.operation = declared  # type: ignore[attr-defined]
    setattr(declared.view, ROUTED, True)
    return view


def _read_body(model: type[BaseModel], request: flask.Request) -> BaseModel:
    data = json_body(request)
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise _invalid("body", error) from error


def _read_query(model: type[BaseModel], request: flask.Request) -> BaseModel:
    try:
        return model.model_validate(query_values(request.args))
    except ValidationError as error:
        raise _invalid("query", error) from error


def _read_headers(model: type[BaseModel], request: flask.Request) -> BaseModel:
    names = {f.alias or name.replace("_", "-") for name, f in model.model_fields.items()}
    present = {name: request.headers[name] for name in names if name in request.headers}
    try:
        return model.model_validate(present, by_name=True, by_alias=True)
    except ValidationError as error:
        raise _invalid("headers", error) from error


_READERS: dict[str, Callable[[type[BaseModel], flask.Request], BaseModel]] = {
    "body": _read_body,
    "query": _read_query,
    "headers": _read_headers,
}


def _invalid(source: str, error: ValidationError) -> Invalid:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [{"location": [source, *fault["loc"]], "message": fault["msg"]} for fault in faults]
    count = "1 value is" if len(errors) == 1 else f"{len(errors)} values are"
    return Invalid(f"{count} not acceptable in the {source}.", errors)
