"""An invalidation reaches the other workers soon, and none is lost."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from threadkit.concurrency import Cache, attach_invalidation_bus
from threadkit.peers import Peers


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    peers = Peers(folder=lambda: tmp_path)
    peers.start()
    yield peers
    peers.close()


def worker(folder: Path, connection: Any) -> None:
    """Another process of the service: caches a value, tells when it is forgotten."""
    attach_invalidation_bus(None)
    peers = Peers(folder=lambda: folder)
    peers.start()
    cache: Cache[int, str] = Cache(10, ttl=60, name="prices")
    for key in range(3):
        cache.get_or_load(key, lambda: "old")
    connection.send("ready")
    while (question := connection.recv()) is not None:
        end = time.monotonic() + 5
        while cache.get(question) is not None and time.monotonic() < end:
            os.sched_yield()
        connection.send((cache.get(question), time.monotonic()))
    peers.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Any]:
    """A pipe to such a process."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=worker, args=(tmp_path, theirs))
    process.start()
    assert ours.poll(30)
    assert ours.recv() == "ready"
    yield ours
    ours.send(None)
    process.join(10)
    assert process.exitcode == 0


def test_an_invalidation_reaches_another_process_soon(peers: Peers, other: Any) -> None:
    cache: Cache[int, str] = Cache(10, ttl=60, name="prices")
    other.send(1)
    began = time.monotonic()
    cache.invalidate(1)
    assert other.poll(10)
    value, forgotten = other.recv()
    assert value is None
    assert forgotten - began < 1


def test_other_caches_and_keys_are_left_alone(peers: Peers, other: Any) -> None:
    cache: Cache[int, str] = Cache(10, ttl=60, name="prices")
    elsewhere: Cache[int, str] = Cache(10, ttl=60, name="names")
    elsewhere.invalidate(2)
    cache.invalidate(1)
    other.send(1)
    assert other.recv()[0] is None
    cache.invalidate(0)
    other.send(0)
    assert other.recv()[0] is None


def test_what_a_full_queue_does_not_take_arrives_later(peers: Peers, tmp_path: Path) -> None:
    slow = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    slow.bind(str(tmp_path / "1.bus"))
    slow.settimeout(5)
    try:
        for number in range(100):
            peers.publish("prices", str(number))
        assert "1 behind" in repr(peers)
        received: list[bytes] = []
        while not received or received[-1] != b'["prices", null]':
            received.append(slow.recv(1000))
        assert len(received) <= 101
    finally:
        slow.close()
        (tmp_path / "1.bus").unlink()


def test_a_peer_that_was_killed_is_forgotten(peers: Peers, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(tmp_path / "1.bus"))
    peers.publish("prices", "1")
    assert not (tmp_path / "1.bus").exists()


def test_nonsense_from_a_peer_is_survived(peers: Peers, tmp_path: Path) -> None:
    heard = threading.Event()
    peers.subscribe(lambda cache, key: heard.set())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        own = str(tmp_path / f"{os.getpid()}.bus")
        sender.sendto(b"\xff", own)
        sender.sendto(b'["prices", null]', own)
    assert heard.wait(5)


def test_without_a_folder_nothing_is_started() -> None:
    peers = Peers(folder=lambda: None)
    peers.start()
    assert repr(peers) == "<Peers alone, 0 behind>"
    peers.close()
