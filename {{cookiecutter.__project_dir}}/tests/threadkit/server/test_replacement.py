"""A worker that is worn out serves until another one has come for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from threadkit import peers
from threadkit.server import presence
from threadkit.server.replacement import Replacement

MASTER, OLD = 11, 4711


class World:
    """A clock, the signals that were sent, and workers that say they have loaded."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent: list[tuple[int, signal.Signals]] = []
        self._newcomers: list[subprocess.Popen[bytes]] = []

    def kill(self, pid: int, number: int) -> None:
        if number:
            self.sent.append((pid, signal.Signals(number)))

    def newcomer_loads(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self._newcomers.append(process)
        presence.announce(process.pid)

    def close(self) -> None:
        for process in self._newcomers:
            process.communicate(b"\n", timeout=30)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    monkeypatch.setattr(peers, "_folder", tmp_path)
    monkeypatch.setattr(os, "kill", world.kill)
    monkeypatch.setattr("time.monotonic", lambda: world.now)
    presence.announce(OLD)
    yield world
    monkeypatch.undo()
    world.close()


def old(pid: int = OLD) -> Replacement:
    return Replacement(SimpleNamespace(pid=pid, ppid=MASTER, alive=True))


def turns(world: World, *workers: Replacement, seconds: float) -> None:
    until = world.now + seconds
    while world.now < until:
        world.now += 0.05
        for worker in workers:
            worker.turn(wanted=True)


def test_nothing_happens_until_it_is_wanted(world: World) -> None:
    old().turn(wanted=False)
    assert world.sent == []


def test_it_leaves_once_the_new_one_has_loaded_however_long_that_takes(world: World) -> None:
    leaving = old()
    turns(world, leaving, seconds=20)
    assert world.sent == [(MASTER, signal.SIGTTIN)]
    assert not presence.is_succeeded(OLD)
    world.newcomer_loads()
    turns(world, leaving, seconds=0.2)
    assert world.sent[1:] == [(OLD, signal.SIGTERM)]
    assert presence.is_succeeded(OLD)
    turns(world, leaving, seconds=100)
    assert len(world.sent) == 2


def test_where_nobody_comes_it_goes_on_and_asks_again(world: World) -> None:
    leaving = old()
    turns(world, leaving, seconds=70)
    assert world.sent == [(MASTER, signal.SIGTTIN)] * 3
    world.newcomer_loads()
    turns(world, leaving, seconds=0.2)
    assert world.sent[-1] == (OLD, signal.SIGTERM)


def test_two_that_leave_together_wait_for_two(world: World) -> None:
    one, two = old(), old(OLD + 1)
    turns(world, one, two, seconds=1)
    world.newcomer_loads()
    turns(world, one, two, seconds=1)
    assert world.sent[2:] == [(OLD, signal.SIGTERM)]
    world.newcomer_loads()
    turns(world, one, two, seconds=1)
    assert world.sent[3:] == [(OLD + 1, signal.SIGTERM)]
