"""What a container allows is found, in either version of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from threadkit import machine
from threadkit.machine import Machine, read, workers_for

GIB = 1024**3


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight processors and 64 GiB."""
    monkeypatch.setattr(machine, "_affinity", lambda: 8)
    monkeypatch.setattr(machine, "_physical_memory", lambda: 64 * GIB)


class Tree:
    """A machine's files, of which only the given ones exist."""

    def __init__(self, root: Path, groups: str, **files: str) -> None:
        self.root = root
        self.write("proc/self/cgroup", groups)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


def test_without_limits_the_affinity_counts(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.cpus, found.memory) == (8, 64 * GIB)
    assert found.cpus_from == "8 in the affinity"


def test_version_2_in_a_container(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/")
    tree.write("sys/fs/cgroup/cpu.max", "150000 100000")
    tree.write("sys/fs/cgroup/memory.max", str(GIB))
    found = read(tmp_path)
    assert (found.cpus, found.memory) == (1.5, GIB)
    assert found.cpus_from == "a quota of 1.5, of 8 in the affinity"
    assert found.memory_from == "the control group's"


def test_version_2_without_a_limit_says_max(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/user.slice/session.scope")
    tree.write("sys/fs/cgroup/user.slice/cpu.max", "max 100000")
    tree.write("sys/fs/cgroup/user.slice/memory.max", "max")
    assert read(tmp_path).cpus == 8
    assert read(tmp_path).memory == 64 * GIB


def test_the_tightest_group_on_the_way_up_holds(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/a/b/c")
    tree.write("sys/fs/cgroup/a/cpu.max", "200000 100000")
    tree.write("sys/fs/cgroup/a/b/cpu.max", "max 100000")
    tree.write("sys/fs/cgroup/a/b/c/cpu.max", "400000 100000")
    tree.write("sys/fs/cgroup/a/b/memory.max", str(2 * GIB))
    tree.write("sys/fs/cgroup/memory.max", str(4 * GIB))
    assert (read(tmp_path).cpus, read(tmp_path).memory) == (2, 2 * GIB)


V1 = "12:memory:/docker/abc\n7:cpu,cpuacct:/docker/abc\n3:cpuset:/\n1:name=systemd:/x"


@pytest.mark.parametrize("mounted", ["docker/abc/", ""], ids=["the host's tree", "a container's"])
def test_version_1(tmp_path: Path, mounted: str) -> None:
    tree = Tree(tmp_path, V1)
    tree.write(f"sys/fs/cgroup/cpu,cpuacct/{mounted}cpu.cfs_quota_us", "250000")
    tree.write(f"sys/fs/cgroup/cpu,cpuacct/{mounted}cpu.cfs_period_us", "100000")
    tree.write(f"sys/fs/cgroup/memory/{mounted}memory.limit_in_bytes", str(GIB))
    assert (read(tmp_path).cpus, read(tmp_path).memory) == (2.5, GIB)


def test_version_1_without_limits(tmp_path: Path) -> None:
    tree = Tree(tmp_path, V1)
    tree.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    tree.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    assert (read(tmp_path).cpus, read(tmp_path).memory) == (8, 64 * GIB)


def test_both_versions_side_by_side(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "4:memory:/m\n2:cpu:/\n0::/")
    tree.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000")
    tree.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    tree.write("sys/fs/cgroup/unified/cpu.max", "100000 100000")
    assert read(tmp_path).cpus == 1


@pytest.mark.parametrize("text", ["", "max", "a b", "100000", "100000 0", "0::"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str) -> None:
    tree = Tree(tmp_path, "0::/")
    tree.write("sys/fs/cgroup/cpu.max", text)
    tree.write("sys/fs/cgroup/memory.max", text if text != "100000" else "-5")
    assert (read(tmp_path).cpus, read(tmp_path).memory) == (8, 64 * GIB)


def test_a_quota_beyond_the_affinity_adds_nothing(tmp_path: Path) -> None:
    Tree(tmp_path, "0::/").write("sys/fs/cgroup/cpu.max", "1600000 100000")
    assert read(tmp_path).cpus == 8


def at(cpus: float, memory: int | None = None) -> Machine:
    return Machine(cpus, f"{cpus:g} somewhere", memory, "somebody's")


@pytest.mark.parametrize(("cpus", "workers"), [(0.5, 2), (1, 2), (2, 2), (2.1, 3), (8, 8)])
def test_there_is_one_worker_a_processor_and_two_at_least(cpus: float, workers: int) -> None:
    assert workers_for(at(cpus)).number == workers


@pytest.mark.parametrize(
    ("megabytes", "workers"), [(64, 1), (192, 1), (400, 2), (600, 4), (4096, 8)]
)
def test_memory_bounds_the_workers(megabytes: int, workers: int) -> None:
    decided = workers_for(at(8, megabytes * 1024**2))
    assert decided.number == workers
    assert ("of memory" in decided.reason) == (workers < 8)


def test_the_reason_says_what_was_found() -> None:
    assert workers_for(at(1)).reason == "2 at least; 1 somewhere"
    assert workers_for(at(4)).reason == "one for each processor (4 somewhere)"


def test_this_very_machine_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = read()
    assert 0 < found.cpus <= (os.cpu_count() or 1)
    assert found.memory is None or found.memory > 0
