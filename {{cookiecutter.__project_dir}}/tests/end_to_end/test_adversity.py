"""What callers hear when something that the service needs is not there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..servers.processes import eventually, free_ports
from ..servers.relay import Relay
from ..servers.service import Service

Start = Callable[..., Service]

ITEM = {"name": "tea", "price_cents": 350}


@pytest.mark.parametrize(("scheme", "module"), [("postgresql", "psycopg"), ("mysql", "pymysql")])
def test_a_database_that_is_away_is_503_and_the_service_lives(
    start: Start, scheme: str, module: str
) -> None:
    pytest.importorskip(module)
    (nobody,) = free_ports(1)
    service = start(DATABASE_URL=f"{scheme}://me:hush@127.0.0.1:{nobody}/name")
    for answer in (
        service.ask("GET", "/v1/items"),
        service.ask("POST", "/v1/items", json=ITEM),
        service.ask("GET", "/readyz"),
        service.ask("GET", "/readyz", admin=True),
    ):
        assert answer.status == 503, answer.data
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) >= 1
        assert b"hush" not in answer.data
    for admin in (False, True):
        assert service.ask("GET", "/livez", admin=admin).status == 200
    assert "hush" not in service.stdout() + service.stderr()


def test_it_recovers_by_itself_when_the_database_comes_back(
    start: Start, postgresql_url: str
) -> None:
    """A relay in between stands for the network."""
    before, _, rest = postgresql_url.partition("@127.0.0.1:")
    port, _, name = rest.partition("/")
    with Relay(int(port)) as relay:
        service = start(DATABASE_URL=f"{before}@{relay.address}/{name}")
        assert service.ask("POST", "/v1/items", json=ITEM).status == 201
        relay.cut()
        assert service.ask("GET", "/v1/items").status == 503
        assert service.ask("GET", "/readyz").status == 503
        relay.mend()
        eventually(
            lambda: service.ask("GET", "/readyz").status == 200, what="ready again", seconds=10
        )
        for _ in range(10):
            assert service.ask("GET", "/v1/items").status == 200


def test_only_trusted_hosts_are_answered_but_probes_always(start: Start) -> None:
    service = start(TRUSTED_HOSTS="shop.example, .inner.example")
    for host, status in (
        ("shop.example", 200),
        ("a.inner.example", 200),
        ("shop.example:8443", 200),
        ("Shop.Example.", 200),
        ("evil.example", 400),
        ("127.0.0.1", 400),
    ):
        assert service.ask("GET", "/v1/items", headers={"Host": host}).status == status
    for path in ("/livez", "/readyz"):
        assert service.ask("GET", path, headers={"Host": "10.0.0.7"}).status == 200
    # Who sends a whole URL means its host, whatever Host says.
    for target, host, status in (
        ("http://evil.example/v1/items", "shop.example", 400),
        ("http://shop.example/v1/items", "evil.example", 200),
    ):
        request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: TE, Close\r\n\r\n"
        assert service.raw(request.encode()).startswith(b"HTTP/1.1 %d " % status)
