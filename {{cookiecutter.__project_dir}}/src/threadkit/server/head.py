"""gunicorn's parser for the head of a request, apart from the socket that it came from."""

from __future__ import annotations

from typing import Any

from threadkit.server.gunicorn_names import Request


class Snapshot:
    """gunicorn's configuration with every value looked up once; it is asked a lot."""

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cfg, name)
        setattr(self, name, value)
        return value


class _Bytes:
    """What the parser reads from: the head, and then nothing."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int | None = None) -> bytes:
        data, self._data = self._data, b""
        return data

    def unread(self, data: bytes) -> None:
        """Nothing is left over: the head was cut off where it ends."""


class Head(Request):  # type: ignore[misc]
    """A request's head; raises gunicorn's errors where it is malformed.

    The body is not its business: ``wire`` has cut it out. What the parser holds against its
    framing counts all the same.
    """

    def __init__(self, cfg: Any, data: bytes, client: Any, number: int) -> None:
        super().__init__(cfg, _Bytes(data), client, number)

    def set_body_reader(self) -> None:
        """Only a look at the fields that say how long a body is, where there are any."""
        if any(name in ("CONTENT-LENGTH", "TRANSFER-ENCODING") for name, _ in self.headers):
            super().set_body_reader()
