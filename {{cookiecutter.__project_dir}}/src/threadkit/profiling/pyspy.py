"""CPU samples by py-spy, a child that reads this process's memory from outside.

A sampler inside the process must ask for the GIL like everyone else, and gets it when others
give it up: bursts of work shorter than the switch interval are invisible to it, and that is
what requests are made of. py-spy stops the process for some microseconds instead, and with
``--gil`` reports the one thread that holds the GIL. C code that releases the GIL is not seen.

Where processors are short, a stop is no instant: it waits for each sleeping thread to get one,
and whoever has the GIL works on, often to the end of its request. What requests begin with
was then seen too little (25 % of the work as 3 to 10). There py-spy looks without a stop. That
loses stacks which change under its eyes, and so flatters loops; how many is in the report. On a
quiet machine this would be the greater evil (16 % as 25 to 32), so both are needed.

Rejected: signals by each thread's CPU clock whose handler writes the stack down where it is
(faulthandler has one). They were true at any load, until one met a half made frame and the
process crashed.

It rests on py-spy's command line, on its count of errors and on its raw format, which the tests
pin: one line a stack, ``thread (TID): NAME;OUTERMOST (FILE:LINE);...;LEAF (FILE:LINE) COUNT``.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Final, NamedTuple

from threadkit.profiling.processors import stop_takes, turns
from threadkit.profiling.profile import Frame, Stack
from threadkit.profiling.window import Window

_THREAD: Final = re.compile(r"thread \((\d+)\)")
_FRAME: Final = re.compile(r"(.*) \((.*?)(?::(\d+))?\)")
_YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")
_PR_SET_PTRACER: Final = 0x59616D61
_PRIORITY: Final = -10
_LOST: Final = re.compile(r"Samples: \d+ Errors: (\d+)")
SLOWEST_STOP: Final = 0.5e-3
"""Seconds; bursts last milliseconds, and a stop must be short against them."""
_LATEST: Final = 5.0
"""Seconds that it may take beyond its window: it reads the interpreter's symbols first."""


class UnavailableError(Exception):
    """py-spy cannot sample here; the text says why."""


class Sampled(NamedTuple):
    """One line of its report."""

    native_id: int
    stack: Stack
    samples: int


class Report(NamedTuple):
    """What it saw, and how well it could."""

    samples: list[Sampled]
    lost: int
    """Looks that met a stack while it changed, and saw nothing."""
    stopping: bool
    """Whether the process stood still while it was looked at."""
    stop_takes: float
    """Seconds that it took to stop the process, or would have."""


def program() -> str | None:
    """Where py-spy is: beside the interpreter, or in PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.is_file() else shutil.which("py-spy")


def record(window: Window) -> Report:
    """Sample this process for the window; the child never outlives the call.

    ``UnavailableError`` where it is missing or may not; ``Abandoned`` when the client left.
    """
    found = program()
    if found is None:
        msg = "py-spy is not installed"
        raise UnavailableError(msg)
    stopping = _probe(window) <= SLOWEST_STOP
    command = [found, "record", "--pid", str(os.getpid()), "--gil", "--threads"]
    command += ["--full-filenames", "--format", "raw"] + ["--nonblocking"] * (not stopping)
    command += ["--rate", str(window.hz), "--duration", str(math.ceil(window.seconds))]
    # Files without names: nothing is left behind, whoever is killed.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as said:
        before = turns()
        with _child(command, output, said) as child:
            status = _wait(child, window)
        slow = stop_takes(before, turns())
        if status != 0:
            msg = f"py-spy ended with {status}: {_last_line(said)}"
            raise UnavailableError(msg)
        output.seek(0)
        samples = parse(output.read().decode("utf-8", "replace"), window.depth)
        return Report(samples, _lost(said), stopping, slow)


def _probe(window: Window) -> float:
    """Seconds that a stop would take now; looks at whatever runs for a tenth of a second."""
    before = turns()
    for _ in range(10):  # our own turns count too, so there are some where nobody asks for anything
        window.wait(0.01)
    return stop_takes(before, turns())


@contextmanager
def _child(
    command: list[str], output: IO[bytes], said: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    # Not its standard output: what it says there at the end would be written over the first
    # lines of the report, as it opens the file anew.
    command += ["--output", f"/proc/self/fd/{output.fileno()}"]
    gated = _restricted()
    if gated:  # it must not begin before we have allowed it to
        command = ["/bin/sh", "-c", 'read _ && exec "$0" "$@"', *command]
    child = subprocess.Popen(  # noqa: S603 - our own arguments
        command,
        stdin=subprocess.PIPE if gated else subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        pass_fds=(output.fileno(),),
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},  # and none of our secrets
    )
    try:
        _hurry(child.pid)
        if gated and child.stdin is not None:
            _allow(child.pid)
            with contextlib.suppress(OSError):
                child.stdin.write(b"\n")
            child.stdin.close()
        yield child
    finally:
        _end(child)
        if gated:
            _allow(0)


def _wait(child: subprocess.Popen[bytes], window: Window) -> int:
    """Its status. Looks often at first, when it may fail, and at the end."""
    began = time.monotonic()
    while (status := child.poll()) is None:
        passed = time.monotonic() - began
        if passed > window.seconds + _LATEST:
            msg = f"py-spy did not end within {window.seconds + _LATEST:g} s"
            raise UnavailableError(msg)
        window.wait(0.02 if passed < 0.5 or passed > window.seconds - 0.3 else 0.25)
    return status


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    # An interrupt lets it detach. Killed in the moment of attaching, it could leave us
    # stopped, so that comes last; the CONT is for threads that it left behind.
    child.send_signal(signal.SIGINT)
    try:
        child.wait(1.0)
    except subprocess.TimeoutExpired:
        child.kill()
        os.kill(os.getpid(), signal.SIGCONT)
        child.wait(5.0)


def _hurry(pid: int) -> None:
    """Let it look when it wants to, where we may.

    On a busy machine a look that waits for a processor comes late in the burst that it should
    have met anywhere: the first third of a request was seen as a sixth.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, _PRIORITY)


def _restricted() -> bool:
    """Whether the kernel lets only declared tracers in (Yama)."""
    try:
        return _YAMA.read_text().strip() == "1"
    except OSError:
        return False


def _allow(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(ctypes.c_int(_PR_SET_PTRACER), ctypes.c_ulong(pid), 0, 0, 0)


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read(64 * 1024).decode("utf-8", "replace")


def _last_line(said: IO[bytes]) -> str:
    lines = [line.strip() for line in _text(said).splitlines() if line.strip()]
    return next((x for x in lines if x.startswith("Error:")), lines[-1] if lines else "")


def _lost(said: IO[bytes]) -> int:
    counted = _LOST.search(_text(said))
    return int(counted[1]) if counted is not None else 0


def parse(report: str, depth: int) -> list[Sampled]:
    """The report's lines; one that is none is left out."""
    found: list[Sampled] = []
    for line in report.splitlines():
        text, _, count = line.rpartition(" ")
        head, *rest = text.split(";")
        thread = _THREAD.match(head)
        if thread is None or not count.isdecimal():
            continue
        # A thread's name may hold a semicolon; its parts do not look like frames.
        frames = [frame for part in reversed(rest) if (frame := _frame(part)) is not None]
        found.append(Sampled(int(thread[1]), tuple(frames[:depth]), int(count)))
    return found


@lru_cache(maxsize=8192)
def _frame(text: str) -> Frame | None:
    match = _FRAME.fullmatch(text)
    if match is None or match[3] is None:
        return None
    return Frame(match[1], match[2], int(match[3]))
