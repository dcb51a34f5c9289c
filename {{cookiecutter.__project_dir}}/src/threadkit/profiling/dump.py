"""The thread dump: Go's ``goroutine`` profile, as a profile and as text in Go's grouping.

``debug=1`` groups threads that stand at the same place; ``debug=2`` lists each with what it
does and for whom, in the form in which Go prints a crash.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from threadkit.profiling.profile import Labels, Profile, Stack, ValueType
from threadkit.profiling.threads import Thread


def goroutine(threads: Sequence[Thread]) -> Profile:
    """One sample a thread; its labels name thread, state, endpoint and method."""
    kind = ValueType("goroutine", "count")
    profile = Profile((kind,), period_type=kind, period=1, default_type="goroutine")
    for thread in threads:
        state = tuple(sorted((*thread.labels, ("state", thread.wait.kind))))
        profile.add(thread.stack, (1,), state)
    return profile


def threadcreate(threads: Sequence[Thread]) -> Profile:
    """Threads by the function that they were started with: the outermost that is theirs."""
    kind = ValueType("threadcreate", "count")
    profile = Profile((kind,), period_type=kind, period=1, default_type="threadcreate")
    for thread in threads:
        own = [f for f in thread.stack if not f.file.endswith("/threading.py")]
        profile.add(tuple(own[-1:] or thread.stack[-1:]), (1,))
    return profile


def grouped(name: str, profile: Profile) -> str:
    """Go's ``debug=1``: one paragraph a place, most frequent first."""
    groups: dict[tuple[Stack, Labels], tuple[list[int], list[str]]] = {}
    for (stack, tags), values in profile.samples.items():
        rest = tuple(t for t in tags if t[0] != "thread")
        sums, names = groups.setdefault((stack, rest), ([0] * len(values), []))
        for index, value in enumerate(values):
            sums[index] += value
        names += [str(v) for k, v in tags if k == "thread"]
    lines = [f"{name} profile: total {profile.total()}"]
    lines += [f"# {comment}" for comment in profile.comments]
    for (stack, tags), (sums, names) in sorted(groups.items(), key=lambda g: g[1][0], reverse=True):
        addresses = [f"{frame.address:#x}" for frame in stack]
        lines.append(f"{' '.join(map(str, sums))} @ {' '.join(addresses)}")
        if tags:
            lines.append(f"# labels: {json.dumps({k: str(v) for k, v in tags})}")
        if names:
            lines.append(f"# threads: {', '.join(sorted(set(names)))}")
        lines += [f"#\t{a}\t{f.name}\t{f.file}:{f.line}" for a, f in zip(addresses, stack)]  # noqa: B905 - equal by construction
        lines.append("")
    return "\n".join(lines) + "\n"


def each(threads: Sequence[Thread]) -> str:
    """Go's ``debug=2``: every thread for itself."""
    return "\n".join(_paragraph(thread) for thread in threads)


def _paragraph(thread: Thread) -> str:
    about = [thread.wait.kind, f'"{thread.name}"']
    if thread.wait.call and thread.wait.kind != "idle":
        about.append(f"in {thread.wait.call}")
    if (request := thread.request) is not None:
        about.append(f"{request.method} {request.route or '(no route)'}")
        about.append(f"request {request.id}")
        about.append(f"age {request.age:.3f}s")
        about.append("no time limit" if request.left is None else f"{request.left:.3f}s left")
    lines = [f"goroutine {thread.native_id or thread.ident} [{', '.join(about)}]:"]
    for frame in thread.stack:
        lines += [f"{frame.name}(...)", f"\t{frame.file}:{frame.line}"]
    return "\n".join(lines) + "\n"
