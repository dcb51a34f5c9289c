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
        sampled = pyspy.record(window)
    except pyspy.UnavailableError as reason:
        profile.comments += [f"{ENGINE}in-process", f"py-spy: {reason}"]
        inprocess.sample(profile, window, requests)
        return profile
    profile.comments += [
        f"{ENGINE}py-spy",
        "what holds the GIL: C code that releases it (waits, compression, queries) is not in here",
    ]
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    for native_id, stack, count in sampled:
        view = views.find(stack)
        tags = labels(
            thread=names.get(native_id, f"ended {native_id}"),
            endpoint=view.endpoint if view else None,
            method=view.method if view else None,
        )
        profile.add(stack, (count, count * profile.period), tags)
    return profile


def engine(profile: Profile) -> str:
    """What took it: ``py-spy`` or ``in-process``; several where workers differ."""
    found = [c.removeprefix(ENGINE) for c in profile.comments if c.startswith(ENGINE)]
    return ", ".join(sorted(set(found)))
