"""A profile as a page of text: what a person at a terminal wants to know, without any tool.

As ``go tool pprof -top`` and ``-tags`` on one page: where the time (or memory, or the waits)
is, which of the service's own functions it is below, and how it divides by label.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterable, Mapping
from typing import Final

from threadkit.profiling.formats import busy, default_column, shown
from threadkit.profiling.profile import Frame, Labels, Profile, Stack

ROWS: Final = 12
"""Lines of each table."""
_LABELS: Final = ("endpoint", "state", "lock", "pid")
_KIT: Final = os.path.dirname(os.path.dirname(__file__))
_FOREIGN: Final = tuple(
    folder + os.sep
    for folder in (_KIT, sysconfig.get_path("stdlib"), sysconfig.get_path("scripts"))
)
_PACKAGES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

Place = tuple[str, str]
"""A function and its file: its lines are one."""


def top(profile: Profile, name: str) -> str:
    """The page. What a delta has less of has no line."""
    profile = busy(profile)
    column = default_column(profile)
    kind, unit = profile.types[column]
    rows = [(*key, values[column]) for key, values in profile.samples.items() if values[column] > 0]
    total = sum(value for _, _, value in rows)
    lines = [f"{name}: {shown(total, unit)}" + (f" of {kind}" if kind != name else "")]
    lines += [f"# {comment}" for comment in profile.comments]
    if not rows:
        return "\n".join([*lines, "nothing was seen"]) + "\n"
    leaves = _Sums((stack[:1], value) for stack, _, value in rows)
    lines += _table("where it is", leaves.largest(), total, unit)
    below = _Sums((filter(_own, reversed(stack)), value) for stack, _, value in rows)
    lines += _table("your functions, with all that they call", below.largest(), total, unit)
    for label in _LABELS:
        lines += _table(f"by {label}", _by_label(label, rows), total, unit)
    return "\n".join(lines) + "\n"


class _Sums:
    """Values by function; each line of it keeps its own, to show the one with the most."""

    def __init__(self, samples: Iterable[tuple[Iterable[Frame], int]]) -> None:
        self._values: dict[Place, int] = {}
        self._lines: dict[Place, dict[int, int]] = {}
        for frames, value in samples:
            # A function that calls itself counts once.
            for place, line in {(f.name, f.file): f.line for f in frames}.items():
                self._values[place] = self._values.get(place, 0) + value
                lines = self._lines.setdefault(place, {})
                lines[line] = lines.get(line, 0) + value

    def largest(self) -> dict[str, int]:
        """As they are shown: function, file and busiest line."""
        return {self._text(place): value for place, value in self._values.items()}

    def _text(self, place: Place) -> str:
        name, file = place
        lines = self._lines[place]
        line = max(lines, key=lines.__getitem__)
        return f"{name}  {file}:{line}" if line else name


def _own(frame: Frame) -> bool:
    """Whether it is the service's: neither Python's, nor a package's, nor the kit's."""
    file = frame.file
    foreign = file.startswith(_FOREIGN) or any(part in file for part in _PACKAGES)
    return os.path.isabs(file) and not foreign


def _by_label(label: str, rows: list[tuple[Stack, Labels, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for _, tags, value in rows:
        for key, said in tags:
            if key == label:
                found[str(said)] = found.get(str(said), 0) + value
    return found


def _table(title: str, values: Mapping[str, int], total: int, unit: str) -> list[str]:
    if not values:
        return []
    # Among equals those that were met first stay first: callers before those that they call.
    largest = sorted(values.items(), key=lambda pair: -pair[1])
    lines = [
        f"{shown(value, unit):>12} {100 * value / total:5.1f} %  {text}"
        for text, value in largest[:ROWS]
    ]
    more = len(largest) - ROWS
    return ["", f"{title}:", *lines, *([f"{'':22}and {more} more"] if more > 0 else [])]
