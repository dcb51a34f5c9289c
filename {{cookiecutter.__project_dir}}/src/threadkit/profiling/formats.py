"""A profile in other tools' formats: collapsed stacks, and speedscope's JSON."""

from __future__ import annotations

import json
from typing import Any, Final

from threadkit.profiling.profile import Frame, Profile

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"
_UNITS: Final = {"nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"}


def default_column(profile: Profile) -> int:
    """The column that a reader shows first: the default type, or the last."""
    names = [each.type for each in profile.types]
    return names.index(profile.default_type) if profile.default_type in names else len(names) - 1


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
