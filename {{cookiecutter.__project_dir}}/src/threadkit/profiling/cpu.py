"""The CPU profile: by py-spy, or in the process where py-spy cannot, which it then says."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Final

from threadkit.profiling import inprocess, pyspy
from threadkit.profiling.profile import Profile, ValueType, labels
from threadkit.profiling.threads import Request
from threadkit.profiling.views import Views
from threadkit.profiling.window import Window

ENGINE: Final = "engine: "
"""How the comment begins that names what took the samples."""
BIASED: Final = "shares may be far off"
"""How the comment begins that says so; it goes on with why."""
MOST_LOST: Final = 0.1
"""Of all looks, up to which shares are good to some ten points."""
LONGEST_WAIT: Final = 5e-3
"""Seconds that a stop would take, up to which looks without one are good to some ten points.
Beyond, whoever has the GIL waits for a processor with it, which is seen as if it worked."""
CPU: Final = ValueType("cpu", "nanoseconds")


def take(window: Window, requests: Collection[Request], views: Views) -> Profile:
    """CPU time by stack, with the labels thread, endpoint and method."""
    profile = Profile(
        (ValueType("samples", "count"), CPU),
        period_type=CPU,
        period=1_000_000_000 // window.hz,
        default_type="cpu",
        duration_ns=int(window.seconds * 1e9),
    )
    try:
        report = pyspy.record(window)
    except pyspy.UnavailableError as reason:
        profile.comments += [f"{ENGINE}in-process", f"py-spy: {reason}"]
        inprocess.sample(profile, window, requests)
        return profile
    profile.comments += [
        f"{ENGINE}py-spy",
        "what holds the GIL: C code that releases it (waits, compression, queries) is not in here",
        *_how_well(report),
    ]
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    for native_id, stack, count in report.samples:
        view = views.find(stack)
        tags = labels(
            thread=names.get(native_id, f"ended {native_id}"),
            endpoint=view.endpoint if view else None,
            method=view.method if view else None,
        )
        profile.add(stack, (count, count * profile.period), tags)
    return profile


def _how_well(report: pyspy.Report) -> list[str]:
    took = f"{report.stop_takes * 1e3:.1f} ms"
    if report.stopping and report.stop_takes > pyspy.SLOWEST_STOP:
        return [f"{BIASED}: on this busy machine a stop for a look took {took}"]
    if report.stopping:
        return []
    looks = report.lost + sum(sample.samples for sample in report.samples)
    lost = f"{report.lost} of {looks} looks met a changing stack, and are lost"
    said = f"looked without a stop, which would have taken {took}"
    return [
        f"{BIASED}: {said}" if report.stop_takes > LONGEST_WAIT else said,
        f"{BIASED}: {lost}" if report.lost > looks * MOST_LOST else lost,
    ]


def engine(profile: Profile) -> str:
    """What took it: ``py-spy`` or ``in-process``; several where workers differ."""
    found = [c.removeprefix(ENGINE) for c in profile.comments if c.startswith(ENGINE)]
    return ", ".join(sorted(set(found)))
