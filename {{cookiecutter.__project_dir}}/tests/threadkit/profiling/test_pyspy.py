"""py-spy's command line and report are what we build on: the contract, tried with the real one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from threadkit.profiling import cpu, pyspy
from threadkit.profiling.profile import Frame, Profile
from threadkit.profiling.views import Views
from threadkit.profiling.window import Abandoned, Window
from threadkit.runtime import RequestRecord, View

needs_pyspy = pytest.mark.skipif(pyspy.program() is None, reason="py-spy is not installed")


def spin_here(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(200))


@pytest.fixture
def spinning() -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=spin_here, args=(stop,), name="spins; (oddly:1)")
    thread.start()
    yield thread
    stop.set()
    thread.join(10)


def children() -> set[int]:
    """Samplers that this process has started; other tests have database servers here."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "py-spy":
                found.add(int(child))
    return found


def names(profile: Profile) -> set[str]:
    return {frame.name for stack, _ in profile.samples for frame in stack}


@needs_pyspy
def test_it_sees_the_thread_that_holds_the_gil(spinning: threading.Thread) -> None:
    profile = cpu.take(Window(1, hz=100), [], Views())
    assert cpu.engine(profile) == "py-spy"
    assert "spin_here" in names(profile)
    assert profile.total(0) >= 30
    assert profile.total(1) == profile.total(0) * 10_000_000
    own = [v[0] for (_, tags), v in profile.samples.items() if ("thread", spinning.name) in tags]
    assert sum(own) >= 0.8 * profile.total(0)
    assert children() == set()


@needs_pyspy
def test_a_handlers_frame_gives_endpoint_and_method(spinning: threading.Thread) -> None:
    code = spin_here.__code__
    lines = [line for _, _, line in code.co_lines() if line]
    view = View(code.co_filename, "spin_here", min(lines), max(lines), "/spin/<id>", "GET")
    profile = cpu.take(Window(1), [], Views([view]))
    tags = [
        dict(tags) for (stack, tags) in profile.samples if "spin_here" in {f.name for f in stack}
    ]
    assert tags
    assert all((t["endpoint"], t["method"]) == ("/spin/<id>", "GET") for t in tags)


@needs_pyspy
def test_who_leaves_takes_the_child_along(spinning: threading.Thread) -> None:
    began = time.monotonic()
    left = threading.Event()
    threading.Timer(0.3, left.set).start()
    with pytest.raises(Abandoned):
        cpu.take(Window(30, pause=left.wait), [], Views())
    assert time.monotonic() - began < 10
    assert children() == set()


@needs_pyspy
def test_a_child_that_is_killed_is_not_the_end(spinning: threading.Thread) -> None:
    """The fallback takes over, and says so and why."""

    def kill() -> None:
        for _ in range(500):
            for child in children():
                os.kill(child, signal.SIGKILL)
                return
            threading.Event().wait(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    profile = cpu.take(Window(1), [], Views())
    killer.join(10)
    assert cpu.engine(profile) == "in-process"
    assert "py-spy ended with -9" in " ".join(profile.comments)
    assert children() == set()


@needs_pyspy
@pytest.mark.parametrize("takes", [0.0, 1.0], ids=["quiet", "busy"])
def test_the_report_is_whole_however_it_looks(
    spinning: threading.Thread, monkeypatch: pytest.MonkeyPatch, takes: float
) -> None:
    """What it says at the end does not stand where the report began; busy, it does not stop us."""
    monkeypatch.setattr(pyspy, "_probe", lambda window: takes)
    counted: list[int] = []
    read = pyspy.parse

    def parse(report: str, depth: int) -> list[pyspy.Sampled]:
        assert all(line.startswith("thread (") for line in report.splitlines())
        counted.append(sum(int(line.rpartition(" ")[2]) for line in report.splitlines()))
        return read(report, depth)

    monkeypatch.setattr(pyspy, "parse", parse)
    report = pyspy.record(Window(1))
    assert counted == [sum(each.samples for each in report.samples)]
    assert report.stopping == (takes == 0)


class TestHowWell:
    """What a profile says of itself."""

    def comments(
        self, monkeypatch: pytest.MonkeyPatch, *, lost: int, stopping: bool, stop_takes: float
    ) -> str:
        report = pyspy.Report([pyspy.Sampled(1, (), 90)], lost, stopping, stop_takes)
        monkeypatch.setattr(pyspy, "record", lambda window: report)
        return "\n".join(cpu.take(Window(1), [], Views()).comments)

    def test_quick_stops_need_no_word(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = self.comments(monkeypatch, lost=0, stopping=True, stop_takes=0.1e-3)
        assert "stop" not in said
        assert cpu.BIASED not in said

    def test_slow_stops_bias_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = self.comments(monkeypatch, lost=0, stopping=True, stop_takes=3e-3)
        assert f"{cpu.BIASED}: on this busy machine a stop for a look took 3.0 ms" in said

    def test_few_lost_looks_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = self.comments(monkeypatch, lost=5, stopping=False, stop_takes=3e-3)
        assert "looked without a stop" in said
        assert "5 of 95 looks met a changing stack" in said
        assert cpu.BIASED not in said

    def test_many_lost_looks_bias_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = self.comments(monkeypatch, lost=30, stopping=False, stop_takes=3e-3)
        assert f"{cpu.BIASED}: 30 of 120 looks met a changing stack" in said

    def test_so_do_long_waits_for_a_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = self.comments(monkeypatch, lost=0, stopping=False, stop_takes=9e-3)
        assert f"{cpu.BIASED}: looked without a stop" in said


def test_where_it_is_missing_the_fallback_says_what_it_is(
    spinning: threading.Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyspy, "program", lambda: None)
    record = RequestRecord("id", "GET", "/x", thread_id=spinning.ident or 0, route="/x")
    profile = cpu.take(Window(0.5, hz=100), [record], Views())
    assert cpu.engine(profile) == "in-process"
    said = " ".join(profile.comments)
    assert "py-spy is not installed" in said
    assert "can be off by more than 15 points" in said
    # All of the CPU that the threads used is in it, wherever the samples that were kept saw it.
    assert 0.05e9 < profile.total(1) < 0.9e9
    seen = [dict(tags) for _, tags in profile.samples if dict(tags).get("endpoint")]
    assert {t["thread"] for t in seen} == {spinning.name}


def test_the_report_is_read_line_by_line() -> None:
    report = (
        "thread (12): a; b (c);outer (/x y/m.py:3);A.inner (/x y/m.py:7) 4\n"
        "thread (13): main;<module> (<string>:1) 1\n"
        "nonsense\n\nthread (14): x 5 5\n"
    )
    first, second, third = pyspy.parse(report, 128)
    inner = Frame("A.inner", "/x y/m.py", 7)
    assert first == (12, (inner, Frame("outer", "/x y/m.py", 3)), 4)
    assert second == (13, (Frame("<module>", "<string>", 1),), 1)
    assert third.stack == ()
    assert pyspy.parse(report, 1)[0].stack == (inner,)
