"""How large the service is, on this very machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..servers.processes import eventually
from ..servers.service import Service

Start = Callable[..., Service]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux pins processes")
def test_the_size_is_said_with_its_reasons_and_each_worker_has_its_core(start: Start) -> None:
    service = start(CPU_AFFINITY="on")
    (said,) = service.records("sized")
    assert said["workers"].startswith("2: ")
    assert "run" in said["threads"]
    assert "connections" in said["pools"]
    cores = [
        line.split()[1]
        for pid in service.pids()
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("Cpus_allowed_list")
    ]
    assert all(core.isdigit() for core in cores), cores
    assert len(set(cores)) == min(2, len(os.sched_getaffinity(0)))


def test_what_is_off_and_what_is_too_large_is_said(start: Start, postgresql_url: str) -> None:
    service = start(
        DATABASE_URL=postgresql_url, DATABASE_POOL_SIZE="70", WORKER_CLASS="gthread", WORKERS="2"
    )
    (off,) = service.records("some protections are off")
    assert list(off["because"]) == ["WORKER_CLASS=gthread"]
    said = eventually(
        lambda: [r for r in service.records() if "a reload may open 560" in r["event"]],
        what="the database is asked",
    )
    assert [r["level"] for r in said] == ["warning"]
    text = service.ask("GET", "/metrics", admin=True).data.decode()
    assert "database_connections_needed 560.0" in text
