"""Who can reach an address, and which two are one."""

from __future__ import annotations

import pytest

from threadkit import hosts


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost", "127.0.0.1", "127.9.8.7", "::1", "0:0::1", "::ffff:127.0.0.1"],
)
def test_only_this_machine_reaches_loopback(host: str) -> None:
    assert hosts.is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1.example.com", "127.example", "localhost.example", "0.0.0.0", "::", ""),
        *("10.0.0.1", "::ffff:10.0.0.1"),
    ],
)
def test_others_reach_everything_else(host: str) -> None:
    assert not hosts.is_loopback(host)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "host.example")),
        *(("::", "127.0.0.1"), ("::", "::1"), ("::", "0.0.0.0"), ("::", "host.example")),
        *(("localhost", "127.0.0.1"), ("localhost", "::1"), ("localhost", "LOCALHOST")),
        *(("::1", "0:0::1"), ("::ffff:127.0.0.1", "127.0.0.1"), ("a.example", "A.example")),
    ],
)
def test_two_hosts_that_are_one_place(one: str, other: str) -> None:
    assert hosts.collide(one, other)
    assert hosts.collide(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("127.0.0.1", "127.0.0.2"), ("127.0.0.1", "::1"), ("0.0.0.0", "::1")),
        *(("localhost", "127.0.0.2"), ("localhost", "a.example"), ("a.example", "10.0.0.1")),
    ],
)
def test_two_hosts_that_are_not(one: str, other: str) -> None:
    assert not hosts.collide(one, other)
    assert not hosts.collide(other, one)
