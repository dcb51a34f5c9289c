"""CPU samples from inside the process, where py-spy may not run. It says that it is this.

It is biased by construction: the sampler has to ask for the GIL, and gets it when another
thread gives it up. Three things keep the bias bounded: a switch interval so short that a burst
is interrupted (put back at the end), samples that came late are dropped, since they show where
the GIL was given up and not where the time went, and a thread counts with the CPU time that
its own clock shows since the last look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Final

from threadkit.profiling.classify import RUNNING, classify, stacks
from threadkit.profiling.clocks import thread_cpu_ns
from threadkit.profiling.profile import Frame, Labels, Profile, Stack
from threadkit.profiling.switching import SWITCHING
from threadkit.profiling.threads import (
    Request,
    by_thread,
    frames,
    refuse_without_gil,
    sample_labels,
)
from threadkit.profiling.window import Window

SWITCH_INTERVAL: Final = 50e-6
"""Seconds; the shortest that was of use."""
LATEST: Final = 250e-6
"""Seconds after which a sample shows something else than what it should."""


NOWHERE: Final[Stack] = (Frame("[no look met it at work]", "", 0),)
"""Stands for CPU time where every look met threads that were just waiting."""

_Seen = dict[tuple[Stack, Labels], list[int]]
"""How often, and with how many nanoseconds of CPU."""


class _Clocks:
    """CPU time of each thread since the last look."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self.total = 0
        self.look()

    def look(self) -> dict[int, tuple[str, int]]:
        """Name and nanoseconds by thread, of those whose clock has moved."""
        moved: dict[int, tuple[str, int]] = {}
        last, self._last = self._last, {}
        for thread in threading.enumerate():
            if thread.ident is None or (now := thread_cpu_ns(thread.native_id)) is None:
                continue
            self._last[thread.ident] = now
            # A thread that is new since has used all that it has.
            if (used := now - last.get(thread.ident, 0 if last else now)) > 0:
                moved[thread.ident] = (thread.name, used)
        return moved


def sample(profile: Profile, window: Window, requests: Collection[Request]) -> None:
    """Fill ``profile`` (samples, cpu) for the window; adds comments on how well it went."""
    refuse_without_gil()
    own, clocks = threading.get_ident(), _Clocks()
    seen: _Seen = {}
    seen_late: _Seen = {}
    ticks = late = total = 0
    with SWITCHING.at_most(SWITCH_INTERVAL):
        began = due = time.monotonic()
        looked = began
        while due < began + window.seconds:
            due += 1 / window.hz
            time.sleep(max(0.0, due - time.monotonic()))
            after = time.monotonic() - due
            ticks += 1
            moved = clocks.look()
            moved.pop(own, None)
            total += sum(used for _, used in moved.values())
            if after > LATEST:
                late += 1
                due = max(due, time.monotonic() - 1 / window.hz)
            _count(seen_late if after > LATEST else seen, moved, by_thread(requests), window.depth)
            if time.monotonic() - looked > 0.1:
                looked = time.monotonic()
                window.wait(0)  # is the client still there?
    # Where processors are so short that none was in time, late ones are all that there is.
    _fill(profile, seen or seen_late, total)
    profile.comments += [
        f"{late} of {ticks} samples came late" + (" and were dropped" if seen else ""),
        "shares are estimates: this sampler must wait for the GIL that it watches, and can be "
        "off by more than 15 points where requests work in bursts of milliseconds",
    ]


def _count(
    found: _Seen,
    moved: dict[int, tuple[str, int]],
    serving: dict[int, Request],
    depth: int,
) -> None:
    for ident, sites in stacks(depth, only=moved).items():
        if classify(sites[:24]).kind != RUNNING:
            continue
        name, used = moved[ident]
        key = (frames(sites), sample_labels(name, serving.get(ident)))
        values = found.setdefault(key, [0, 0])
        values[0] += 1
        values[1] += used


def _fill(profile: Profile, found: _Seen, total: int) -> None:
    """What was dropped is spread over what was seen, so that the sum is what was used."""
    seen = sum(used for _, used in found.values())
    if not seen:
        profile.add(NOWHERE, (0, total))
    for (stack, tags), (count, used) in found.items():
        profile.add(stack, (count, used * total // seen), tags)
