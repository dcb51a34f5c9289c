"""A profile in other tools' formats: collapsed stacks, and speedscope's JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from threadkit.profiling.classify import IDLE
from threadkit.profiling.profile import Frame, Profile

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"
_UNITS: Final = {"nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"}


def default_column(profile: Profile) -> int:
    """The column that a reader shows first: the default type, or the last."""
    names = [each.type for each in profile.types]
    return names.index(profile.default_type) if profile.default_type in names else len(names) - 1


def shown(value: int, unit: str) -> str:
    """A value in a unit that a person would choose."""
    if unit == "nanoseconds":
        return f"{value / 1e9:.2f} s" if value >= 1e9 else f"{value / 1e6:.1f} ms"
    if unit == "bytes":
        return f"{value / 2**20:.1f} MiB" if value >= 2**20 else f"{value / 2**10:.1f} KiB"
    return str(value)


def busy(profile: Profile) -> Profile:
    """For people: without the time of threads that have nothing to do, which would be most of it.

    A comment says how much there was. Counted threads stay: an idle one too many is a leak.
    """
    column = default_column(profile)
    unit = profile.types[column].unit
    idle = {key for key in profile.samples if ("state", IDLE) in key[1]}
    if not idle or unit != "nanoseconds":
        return profile
    time = sum(profile.samples[key][column] for key in idle)
    return replace(
        profile,
        samples={key: values for key, values in profile.samples.items() if key not in idle},
        comments=[*profile.comments, f"{shown(time, unit)} of idle threads, left out"],
    )


def collapsed(profile: Profile) -> str:
    """Brendan Gregg's folded stacks: ``thread;outermost;…;leaf COUNT``, of the default type."""
    column = default_column(profile)
    lines: dict[str, int] = {}
    for (stack, tags), values in profile.samples.items():
        parts = [str(value) for key, value in tags if key in ("pid", "thread")]
        parts += [f"{frame.name} ({frame.file}:{frame.line})" for frame in reversed(stack)]
        text = ";".join(part.replace(";", ":").replace("\n", " ") for part in parts)
        lines[text] = lines.get(text, 0) + values[column]
    return "".join(f"{text} {count}\n" for text, count in sorted(lines.items()))


def speedscope(profile: Profile, name: str) -> bytes:
    """One profile of speedscope's a type. What is negative (a delta) has no width there: 0."""
    frames: dict[Frame, int] = {}
    stacks = [
        [frames.setdefault(frame, len(frames)) for frame in reversed(stack)]
        for stack, _ in profile.samples
    ]
    profiles: list[dict[str, Any]] = []
    for column, kind in enumerate(profile.types):
        weights = [max(0, values[column]) for values in profile.samples.values()]
        unit = kind.unit if kind.unit in _UNITS else "none"
        head = {"type": "sampled", "name": f"{name} {kind.type}", "unit": unit}
        ends = {"startValue": 0, "endValue": sum(weights)}
        profiles.append({**head, **ends, "samples": stacks, "weights": weights})
    shown = [_shown(frame) for frame in frames]
    document: dict[str, Any] = {"$schema": SCHEMA, "name": name, "exporter": "threadkit"}
    document |= {"activeProfileIndex": default_column(profile), "shared": {"frames": shown}}
    return json.dumps({**document, "profiles": profiles}).encode()


def _shown(frame: Frame) -> dict[str, Any]:
    place: dict[str, Any] = {"name": frame.name}
    if frame.file:
        place["file"] = frame.file
    if frame.line > 0:
        place["line"] = frame.line
    return place
