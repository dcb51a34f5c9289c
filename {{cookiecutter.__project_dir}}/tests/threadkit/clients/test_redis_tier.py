"""The shared tier saves work across instances, and costs nothing while Redis is away."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from threadkit.clients.redis_tier import RedisTier
from threadkit.concurrency import Cache, Codec
from threadkit.settings import Settings

TEXT = Codec(dump=str.encode, load=bytes.decode)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def settings(port: int) -> Settings:
    return Settings(database_url="sqlite:///x.db", redis_url=f"redis://127.0.0.1:{port}/0")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Redis."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    number = free_port()
    folder: Path = tmp_path_factory.mktemp("redis")
    options = ["--port", str(number), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", number)) == 0:
                break
    yield number
    process.terminate()
    process.wait(10)


@pytest.fixture
def tier(port: int) -> Iterator[RedisTier]:
    tier = RedisTier(settings(port), service="shop")
    tier.start()
    yield tier
    tier.close()


def test_what_one_instance_loaded_another_need_not_load(tier: RedisTier) -> None:
    first: Cache[int, str] = Cache(10, ttl=60, name="prices", codec=TEXT)
    second: Cache[int, str] = Cache(10, ttl=60, name="prices", codec=TEXT)
    assert first.get_or_load(1, lambda: "loaded") == "loaded"
    assert second.get_or_load(1, lambda: pytest.fail("loaded twice")) == "loaded"


def test_an_invalidation_reaches_the_tier(tier: RedisTier) -> None:
    cache: Cache[int, str] = Cache(10, ttl=60, name="names", codec=TEXT)
    cache.get_or_load(1, lambda: "old")
    cache.invalidate(1)
    assert tier.get("names", "1") is None
    assert cache.get_or_load(1, lambda: "new") == "new"


def test_a_redis_that_is_away_is_a_miss_and_then_left_alone() -> None:
    tier = RedisTier(settings(free_port()), service="shop")
    tier.start()
    try:
        cache: Cache[int, str] = Cache(100, ttl=60, name="away", codec=TEXT)
        for key in range(50):
            assert cache.get_or_load(key, lambda: "loaded") == "loaded"
        assert cache.stats()["shared_errors"] <= 2
    finally:
        tier.close()
