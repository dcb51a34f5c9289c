"""The head of a request: read by gunicorn's parser the first time, put together the second."""

from __future__ import annotations

from typing import Final

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]

from threadkit.server import gunicorn_names
from threadkit.server import head as heads
from threadkit.server.faults import Fault
from threadkit.server.head import Head, KnownHead, Snapshot, parse

CFG: Final = Snapshot(Config())
MALFORMED: Final = (Fault, gunicorn_names.errors.ParseException)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line has been seen before."""
    monkeypatch.setattr(heads, "_lines", {})


def read(first: bytes, *fields: bytes) -> Head | KnownHead:
    data = b"\r\n".join([first, *fields]) + b"\r\n\r\n"
    return parse(CFG, data, ("127.0.0.1", 1), 1)


def host(head: Head | KnownHead) -> list[str]:
    return [value for name, value in head.headers if name == "HOST"]


@pytest.mark.parametrize("times", [1, 2], ids=["first", "again"])
@pytest.mark.parametrize(
    "fields",
    [
        (b"Accept: */*",),
        (b"Host: x", b"Host: y"),
        (b"Host: x", b"Host: x"),
        *((b"Host: " + bad,) for bad in (b"a b/@", b"a/b", b"me@a", b"a:b", b"[::1", b"a%2", b"<")),
    ],
)
def test_one_host_and_a_well_formed_one_is_needed(fields: tuple[bytes, ...], times: int) -> None:
    read(b"GET / HTTP/1.1", b"Host: x", b"Accept: */*")  # these lines are known from now on
    for _ in range(times):
        with pytest.raises(MALFORMED):
            read(b"GET / HTTP/1.1", *fields)


@pytest.mark.parametrize(
    "good", [b"x", b"X.example.:8000", b"[::1]:80", b"a_b", b"a%20b", b"", b"x:"]
)
def test_every_form_of_host_is_taken(good: bytes) -> None:
    for kind in (Head, KnownHead):
        head = read(b"GET / HTTP/1.1", b"Host: " + good)
        assert type(head) is kind
        assert host(head) == [good.decode()]


def test_http_1_0_may_do_without_a_host() -> None:
    assert host(read(b"GET / HTTP/1.0")) == []
    with pytest.raises(Fault, match="malformed"):
        read(b"GET / HTTP/1.0", b"Host: a b")


@pytest.mark.parametrize(
    ("target", "name", "path"),
    [
        (b"http://evil/x?y", "evil", "/x"),
        (b"HTTP://evil:81/x", "evil:81", "/x"),
        (b"http://evil", "evil", "/"),
    ],
)
def test_the_host_of_a_whole_url_counts_and_not_the_field(
    target: bytes, name: str, path: str
) -> None:
    for _ in range(2):
        head = read(b"GET " + target + b" HTTP/1.1", b"Host: good", b"Accept: */*")
        assert (host(head), head.path) == ([name], path)
    assert host(read(b"GET /http://evil/ HTTP/1.1", b"Host: good")) == ["good"]


@pytest.mark.parametrize("target", [b"http:///x", b"http://me@evil/x", b"http://a:b/x"])
def test_a_whole_url_without_a_proper_host_is_refused(target: bytes) -> None:
    with pytest.raises(Fault, match="of the target"):
        read(b"GET " + target + b" HTTP/1.1", b"Host: good")


@pytest.mark.parametrize(
    ("version", "said", "closes"),
    [
        (b"1.1", (), False),
        (b"1.1", (b"close",), True),
        (b"1.1", (b"TE, close",), True),
        (b"1.1", (b"Close ,te",), True),
        (b"1.1", (b"TE", b"close"), True),
        (b"1.1", (b"keep-alive, close",), True),
        (b"1.1", (b"closed, x-close",), False),
        (b"1.0", (), True),
        (b"1.0", (b"Keep-Alive",), False),
        (b"1.0", (b"TE, Keep-Alive",), False),
        (b"1.0", (b"keep-alive", b"close"), True),
    ],
)
def test_connection_is_a_list_in_any_case(
    version: bytes, said: tuple[bytes, ...], closes: bool
) -> None:
    for kind in (Head, KnownHead):
        fields = [b"Connection: " + option for option in said]
        head = read(b"GET / HTTP/" + version, b"Host: x", *fields)
        assert type(head) is kind
        assert head.should_close() is closes
