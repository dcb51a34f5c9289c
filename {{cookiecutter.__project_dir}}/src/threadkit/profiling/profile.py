"""A profile: what was seen how often, where, and by whom.

The model of Go's ``profile.proto`` without its tables: stacks are tuples, leaf first, and
equal ones share one entry. Encoding, decoding and merging are apart; this is only the data.

    profile = Profile((ValueType("samples", "count"), ValueType("cpu", "nanoseconds")))
    profile.add((Frame("f", "m.py", 3), Frame("<module>", "m.py", 9)), (1, 10_000_000))
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MOST_STACKS: Final = 20_000
"""Different stacks that a profile holds; the rest is added up as one that says so."""
DEEPEST: Final = 128
"""Frames of a stack, from the leaf; what is further out is left away."""


class Frame(NamedTuple):
    """A function and the line in it. ``first`` is where the function begins, 0 if unknown."""

    name: str
    file: str
    line: int
    first: int = 0

    @property
    def address(self) -> int:
        """Stands where Go has a program counter: the same place has the same, in every worker."""
        digest = hashlib.blake2b(repr(tuple(self)).encode(), digest_size=7).digest()
        return int.from_bytes(digest) or 1


Stack = tuple[Frame, ...]
"""Leaf first, as in profile.proto."""
Labels = tuple[tuple[str, str | int], ...]
"""Sorted by key; a number is a numeric label."""

OTHERS: Final[Stack] = (Frame(f"[stacks beyond the first {MOST_STACKS}]", "", 0),)


class ValueType(NamedTuple):
    """What a column of values means: ``("cpu", "nanoseconds")``."""

    type: str
    unit: str


def labels(**values: str | int | None) -> Labels:
    """Labels in their canonical order, without those that are None or empty."""
    return tuple(sorted((k, v) for k, v in values.items() if v not in (None, "")))


@dataclass
class Profile:
    """Samples and what they measure. Not thread-safe: one thread builds it."""

    types: tuple[ValueType, ...]
    samples: dict[tuple[Stack, Labels], list[int]] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)
    period_type: ValueType | None = None
    period: int = 0
    time_ns: int = field(default_factory=time.time_ns)
    duration_ns: int = 0
    default_type: str = ""

    def add(self, stack: Stack, values: Sequence[int], tags: Labels = ()) -> None:
        """Count ``values`` for ``stack``; beyond the limits they still count, elsewhere."""
        key = (stack[:DEEPEST], tags)
        have = self.samples.get(key)
        if have is None:
            if len(self.samples) >= MOST_STACKS:
                key = (OTHERS, ())
            have = self.samples.setdefault(key, [0] * len(self.types))
        for index, value in enumerate(values):
            have[index] += value

    def total(self, column: int = 0) -> int:
        """Sum of one column."""
        return sum(values[column] for values in self.samples.values())

    def tag(self, **values: str | int) -> Profile:
        """A copy in which every sample has these labels too; theirs win over what was there."""
        copy = Profile(**{**self.__dict__, "samples": {}, "comments": list(self.comments)})
        for (stack, old), counted in self.samples.items():
            copy.add(stack, counted, labels(**{**dict(old), **values}))
        return copy
