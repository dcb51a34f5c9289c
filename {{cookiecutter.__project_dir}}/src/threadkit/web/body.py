"""Reading a request's body: bounded, complete, and strict JSON.

werkzeug hands out a chunked body that is larger than the limit cut short and without a
word. Here every read of the body, the owner's own included, either gives all of it or
raises.
"""

from __future__ import annotations

import io
from typing import IO, Any

import flask
import orjson
from werkzeug.datastructures import MultiDict
from werkzeug.utils import cached_property

from threadkit.errors import BadRequest, ContentTooLarge, ServiceError, UnsupportedMediaType
from threadkit.runtime import REQUEST_RECORD, RequestRecord


class StrictBody(io.RawIOBase):
    """``wsgi.input`` up to ``limit`` bytes; ``expected`` is the announced length, if any.

    ``record`` is told while the thread waits for the client: that time is not the handler's.
    """

    def __init__(
        self,
        stream: IO[bytes],
        *,
        limit: int,
        expected: int | None,
        record: RequestRecord | None = None,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._record = record
        self._limit = limit
        self._expected = expected
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = len(buffer)
        if self._expected is not None:
            wanted = min(wanted, self._expected - self._position)
        if wanted == 0:
            return 0
        try:
            data = self._receive(wanted)
        except ServiceError:  # the kit's worker knows what is wrong with it
            raise
        except OSError as error:
            msg = f"The connection broke after {self._position} bytes of the body."
            raise BadRequest(msg) from error
        except Exception as error:  # the server's own parser: a malformed chunk, for one
            msg = f"The body is malformed after {self._position} bytes."
            raise BadRequest(msg) from error
        self._position += len(data)
        if self._position > self._limit:
            raise too_large(self._limit)
        if not data and self._expected is not None:
            msg = f"The body ended after {self._position} of {self._expected} bytes."
            raise BadRequest(msg)
        buffer[: len(data)] = data
        return len(data)

    def _receive(self, wanted: int) -> bytes:
        if self._record is None:
            return self._stream.read(wanted)
        self._record.with_client = True
        try:
            return self._stream.read(wanted)
        finally:
            self._record.with_client = False


class Request(flask.Request):
    """Flask's request over a ``StrictBody``."""

    @cached_property
    def stream(self) -> IO[bytes]:
        limit = flask.current_app.config["MAX_CONTENT_LENGTH"]
        expected = self.content_length
        if expected is not None and expected > limit:
            raise too_large(limit)
        if expected is None and not self.environ.get("wsgi.input_terminated"):
            return io.BytesIO()  # neither a length nor chunks: there is no body
        record = self.environ.get(REQUEST_RECORD)
        stream = self.environ["wsgi.input"]
        body = StrictBody(stream, limit=limit, expected=expected, record=record)
        return io.BufferedReader(body)


def too_large(limit: int) -> ContentTooLarge:
    """The error for a body over ``limit`` bytes."""
    return ContentTooLarge(f"The body is larger than {limit} bytes.")


def json_body(request: flask.Request) -> bytes:
    """The body as sent, known to be one well-formed JSON document in UTF-8."""
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        shown = request.mimetype or "nothing"
        msg = f"This route reads application/json; the Content-Type says {shown!r}."
        raise UnsupportedMediaType(msg)
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8"):
        msg = f"JSON is UTF-8 (RFC 8259); the Content-Type says charset={charset!r}."
        raise UnsupportedMediaType(msg)
    data = request.get_data(cache=False)
    if not data:
        msg = "The body is empty; this route reads a JSON document."
        raise BadRequest(msg)
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        msg = f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        raise BadRequest(msg) from error
    return data


def query_values(arguments: MultiDict[str, str]) -> dict[str, str | list[str]]:
    """The query as values; a repeated name is a list, for the model to accept or refuse."""
    return {
        name: values[0] if len(values) == 1 else values
        for name, values in arguments.to_dict(flat=False).items()
    }
