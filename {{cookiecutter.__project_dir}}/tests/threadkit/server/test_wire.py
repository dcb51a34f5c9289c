"""Where a request ends is decided once, and what leaves it open is refused."""

from __future__ import annotations

import pytest

from threadkit.server.faults import Fault
from threadkit.server.wire import Inflow, Limits, Stage

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n"
)


def head(*fields: bytes) -> bytes:
    return b"POST /a HTTP/1.1\r\nHost: x\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n"


def chunked(body: bytes) -> bytes:
    return head(b"Transfer-Encoding: chunked") + body


@pytest.mark.parametrize(("request_", "body"), [(GET, b""), (POST, b"hello"), (CHUNKED, b"hello")])
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_: bytes, body: bytes) -> None:
    inflow = Inflow(Limits())
    for byte in request_[:-1]:
        assert inflow.feed(bytes([byte])) in (Stage.HEAD, Stage.BODY)
    assert inflow.feed(request_[-1:]) is Stage.READY
    assert inflow.target() == b"/a"
    received = inflow.take()
    assert received.body == body
    assert received.rest == 0
    assert inflow.look() is Stage.IDLE


def test_what_follows_stays_for_the_next_request() -> None:
    inflow = Inflow(Limits())
    assert inflow.feed(CHUNKED + POST + GET + GET[:5]) is Stage.READY
    assert [inflow.take().body, inflow.look()] == [b"hello", Stage.READY]
    assert [inflow.take().body, inflow.look()] == [b"hello", Stage.READY]
    assert inflow.take().head == GET
    assert inflow.look() is Stage.HEAD
    assert inflow.feed(GET[5:]) is Stage.READY


@pytest.mark.parametrize(
    "request_",
    [
        head(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        head(b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        head(b"Content-Length: 5", b"Content-Length: 5"),
        head(b"Content-Length: 5", b"content-length: 6"),
        head(b"Content-Length: +5"),
        head(b"Content-Length: 5, 5"),
        head(b"Content-Length: 0x5"),
        head(b"Content-Length:"),
        head(b"Content-Length: -1"),
        head(b"Transfer-Encoding: gzip, chunked"),
        head(b"Transfer-Encoding: chunked, chunked"),
        head(b"Transfer-Encoding: identity"),
        head(b"Transfer-Encoding: xchunked"),
        head(b"Transfer-Encoding:\x0bchunked"),
        head(b"Transfer-Encoding:\r\n chunked"),
        chunked(b"\r\n"),
        chunked(b"-1\r\n"),
        chunked(b"0x3\r\nabc\r\n"),
        chunked(b"3 \r\nabc\r\n"),
        chunked(b"3\nabc\n0\n\n"),
        chunked(b"3\r\nabcd\r\n"),
        chunked(b"3;a=\x00\r\nabc\r\n"),
        chunked(b"3;\r\nabc\r\n"),
        chunked(b"f" * 17 + b"\r\n"),
        chunked(b"1" * 2000),
        chunked(b"0\r\nno field\r\n\r\n"),
        chunked(b"0\r\n" + b"a: b\r\n" * 40 + b"\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x00\x00\x00",
        b"GET / HTTP/1.1\nHost: x\n",
        b"hello there\r\n",
        b"GET / HTTP/1.1 \r\nHo",
    ],
)
def test_what_leaves_the_end_of_a_request_open_is_400(request_: bytes) -> None:
    inflow = Inflow(Limits())
    with pytest.raises(Fault) as caught:
        inflow.feed(request_)
    assert caught.value.status == 400
    with pytest.raises(Fault) as again:
        inflow.look()
    assert again.value.status == 400


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 9000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
        (head(b"Content-Length: 1025"), 413),
        (head(b"Content-Length: 1" + b"0" * 18), 413),
        (head(b"Content-Length: 9223372036854775807"), 413),
        (head(b"Content-Length: 1" + b"0" * 20), 413),
        (head(b"Content-Length: " + b"9" * 5000), 413),
        (chunked(b"401\r\n"), 413),
        (chunked(b"200\r\n" + b"a" * 512 + b"\r\n201\r\n"), 413),
    ],
)
def test_what_is_too_large_is_told_as_soon_as_that_is_known(request_: bytes, status: int) -> None:
    inflow = Inflow(Limits(body=1024))
    with pytest.raises(Fault) as caught:
        inflow.feed(request_)
    assert caught.value.status == status
    # And nothing else afterwards: what follows such a head is no request.
    with pytest.raises(Fault) as again:
        inflow.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert again.value.status == status


def test_zeros_in_front_of_a_length_do_not_count() -> None:
    assert Inflow(Limits()).feed(head(b"Content-Length: " + b"0" * 30 + b"5") + b"hello") is (
        Stage.READY
    )


def test_a_body_too_large_to_gather_is_left_to_the_thread() -> None:
    inflow = Inflow(Limits(body=10_000, gathered=100))
    assert inflow.feed(head(b"Content-Length: 1000") + b"a" * 10) is Stage.READY
    received = inflow.take()
    assert (received.body, received.rest) == (b"a" * 10, 990)


def test_only_http_1_1_is_told_to_continue() -> None:
    for version, asks in ((b"1.1", True), (b"1.0", False)):
        inflow = Inflow(Limits())
        stage = inflow.feed(
            b"POST / HTTP/" + version + b"\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        )
        assert (stage, inflow.asks) == (Stage.BODY, asks)
