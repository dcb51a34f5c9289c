"""The size of the service is said with its reasons, and workers are spread over the cores."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from threadkit import machine
from threadkit.machine import Machine
from threadkit.server import sizing
from threadkit.settings import Settings

MACHINE = Machine(1.5, "a quota of 1.5", 1_000_000_000, "the control group's")


def settings(**values: Any) -> Settings:
    return Settings(database_url="sqlite:///unused.db", **values)


def test_each_number_has_its_reason() -> None:
    assert sizing.decision(settings(), workers=2, threads=20, at=MACHINE) == {
        "workers": "2: one for each processor (a quota of 1.5)",
        "threads": "20 a worker: 8 run, 8 wait, 4 to spare",
        "pools": "8 and 8 connections a worker, to write and to read",
        "cpus": "1.5: a quota of 1.5",
        "memory": "1000 MB (the control group's), 500 a worker",
    }


@pytest.mark.parametrize("values", [{"workers": 2}, {}], ids=["WORKERS", "gunicorn's option"])
def test_what_is_set_is_said_to_be(values: dict[str, int]) -> None:
    workers = values.get("workers", 5)
    said = sizing.decision(settings(**values), workers=workers, threads=20, at=MACHINE)
    assert said["workers"] == f"{workers}: as set"


def test_more_workers_than_memory_has_room_for_are_a_warning() -> None:
    assert sizing.warning(2, MACHINE) is None
    told = sizing.warning(30, MACHINE)
    assert told is not None
    assert "lower WORKERS" in told
    assert sizing.warning(99, MACHINE._replace(memory=None)) is None


def test_the_default_follows_from_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKERS", raising=False)
    monkeypatch.setattr(machine, "read", lambda: MACHINE._replace(cpus=5.0))
    assert settings().workers == 5


def worker(core: int | None = None) -> SimpleNamespace:
    return SimpleNamespace() if core is None else SimpleNamespace(core=core)


def test_each_worker_gets_the_core_that_the_fewest_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 5}, raising=False)
    there: list[Any] = []
    for _ in range(4):  # a reload has twice as many for a while
        new = worker()
        sizing.choose_core(new, there)
        there.append(new)
    assert [each.core for each in there] == [2, 5, 2, 5]
    del there[1]
    new = worker()
    sizing.choose_core(new, there)
    assert new.core == 5


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_a_pinned_worker_stays_on_its_core() -> None:
    core = min(os.sched_getaffinity(0))
    code = (
        "import os, types; from threadkit.server import sizing;"
        f"sizing.pin(types.SimpleNamespace(core={core})); print(os.sched_getaffinity(0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == f"{{{core}}}"


def test_without_the_setting_nobody_is_pinned() -> None:
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    sizing.pin(worker())
    assert before is None or os.sched_getaffinity(0) == before
