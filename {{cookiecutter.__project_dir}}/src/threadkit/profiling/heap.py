"""The heap: what lives by type, at once, or where it was allocated, for a window of time.

CPython keeps no account of its allocations. ``tracemalloc`` does while it runs, and a request
then costs six times as much, or twenty with eight frames: so only as long as somebody asks,
and one frame deep unless they ask for more.
"""

from __future__ import annotations

import gc
import linecache
import re
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from threadkit.profiling.profile import Frame, Profile, ValueType
from threadkit.profiling.window import Window

_TYPES: Final = (ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes"))
MOST_SIZED: Final = 50_000
"""Objects of which the size is asked; beyond them every n-th stands for n."""
MOST_TRACED: Final = 256 * 1024 * 1024
"""Bytes that tracemalloc may take for itself before the window is closed early."""


def _profile(*comments: str) -> Profile:
    return Profile(
        _TYPES,
        period_type=ValueType("space", "bytes"),
        period=1,
        default_type="inuse_space",
        comments=list(comments),
    )


def by_type() -> Profile:
    """What the collector knows of, by type: containers and instances with their own size.

    Strings, bytes and numbers are not known to it; ``seconds`` shows those, by place.
    """
    objects = gc.get_objects()
    step = 1 + len(objects) // MOST_SIZED
    profile = _profile("live objects by type, own size; ask with seconds=N for where they are made")
    if step > 1:
        profile.comments.append(f"one of {step} was looked at, of {len(objects)} objects")
    for one in objects[::step]:
        kind = type(one)
        # A class may say what it likes here, also what is no text.
        module = str(kind.__module__)
        frame = Frame(f"{module}.{kind.__qualname__}", module, 0)
        profile.add((frame,), (step, step * _size(one)))
    return profile


def _size(one: object) -> int:
    try:
        return sys.getsizeof(one)
    except Exception:  # an owner's own __sizeof__ or a half-made object
        return 0


@contextmanager
def tracing(depth: int) -> Iterator[None]:
    """tracemalloc for a block; one that ran already goes on as it was."""
    if tracemalloc.is_tracing():
        yield
        return
    tracemalloc.start(depth)
    try:
        yield
    finally:
        tracemalloc.stop()


def allocated(window: Window) -> Profile:
    """What was allocated within the window and lives at its end, by place."""
    started = not tracemalloc.is_tracing()
    with tracing(window.depth):
        left = window.seconds
        while left > 0 and tracemalloc.get_tracemalloc_memory() < MOST_TRACED:
            window.wait(min(0.25, left))
            left -= 0.25
        snapshot = tracemalloc.take_snapshot()
    snapshot = snapshot.filter_traces((tracemalloc.Filter(False, tracemalloc.__file__),))
    profile = _profile(
        "allocated within the window and still alive"
        if started
        else "tracemalloc ran before: everything since it was started"
    )
    if left > 0:
        profile.comments.append(f"closed {left:.1f} s early: the accounts had {MOST_TRACED} bytes")
    profile.duration_ns = int(window.seconds * 1e9)
    for each in snapshot.statistics("traceback"):
        stack = tuple(_frame(f.filename, f.lineno) for f in reversed(each.traceback))
        profile.add(stack, (each.count, each.size))
    return profile


@lru_cache(maxsize=16_384)
def _frame(file: str, line: int) -> Frame:
    """tracemalloc knows no functions: the name is that of the ``def`` above the line."""
    own = linecache.getline(file, line)
    indent = len(own) - len(own.lstrip()) if own.strip() else 10_000
    for number in range(line, 0, -1):
        text = linecache.getline(file, number)
        found = re.match(r"(\s*)(?:async\s+)?(?:def|class)\s+(\w+)", text)
        if found is not None and (len(found[1]) < indent or number == line):
            return Frame(found[2], file, line, number)
        if text.strip() and not text.lstrip().startswith("#"):
            indent = min(indent, len(text) - len(text.lstrip()))
        if indent == 0 and found is None:
            break
    return Frame("<module>", file, line)


def figures() -> str:
    """Resident memory, the collector and the allocator, a line each, as Go prints MemStats."""
    lines = [f"# {key} = {value}" for key, value in _status().items()]
    lines += [f"# AllocatedBlocks = {sys.getallocatedblocks()}"]
    lines += [f"# GC enabled = {gc.isenabled()}, thresholds = {gc.get_threshold()}"]
    lines += [f"# GC waiting = {gc.get_count()}, frozen = {gc.get_freeze_count()}"]
    for number, one in enumerate(gc.get_stats()):
        shown = ", ".join(f"{key} = {value}" for key, value in one.items())
        lines.append(f"# GC generation {number}: {shown}")
    lines.append(f"# Tracemalloc = {tracemalloc.is_tracing()}")
    return "\n".join(lines) + "\n"


def _status() -> dict[str, Any]:
    """The kernel's account of this process."""
    wanted = {"VmRSS": "RSS", "VmHWM": "RSS peak", "VmData": "Data", "VmSwap": "Swap"}
    try:
        with open("/proc/self/status") as status:
            pairs = (line.split(":", 1) for line in status if ":" in line)
            return {wanted[k]: v.strip() for k, v in pairs if k in wanted}
    except OSError:  # not Linux
        import resource

        return {"RSS peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
