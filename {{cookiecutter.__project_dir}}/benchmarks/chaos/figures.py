"""What is wanted of a number, and whether it holds.

Ratios and counts are judged as they are. A time in seconds or milliseconds depends on what else
the machine does, so it may be off by MARGIN; of several rounds its median counts, as a ratio's
does. A count that must be nought has to be so in every round.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Numbers = dict[str, float]
MARGIN = 1.05


@dataclass(frozen=True)
class Wanted:
    """One row of the table: a number, how rounds are summed up, and what it must be."""

    name: str
    text: str
    holds: Callable[[float], bool] | None
    over_rounds: Callable[[Sequence[float]], float] = statistics.median

    def of(self, rounds: Sequence[Numbers]) -> float:
        """The number of all rounds; not a number where it was not measured."""
        values = [one[self.name] for one in rounds if self.name in one]
        return self.over_rounds(values) if values else math.nan


def at_least(name: str, limit: float) -> Wanted:
    """A ratio."""
    return Wanted(name, f">= {limit:g}", lambda value: value >= limit)


def at_most(name: str, limit: float) -> Wanted:
    """A ratio."""
    return Wanted(name, f"<= {limit:g}", lambda value: value <= limit)


def always(name: str, limit: float) -> Wanted:
    """A ratio that no round may fall short of."""
    return Wanted(name, f">= {limit:g}", lambda value: value >= limit, min)


def never_more(name: str, limit: float) -> Wanted:
    """A count that no round may exceed."""
    return Wanted(name, f"<= {limit:g}", lambda value: value <= limit, max)


def within(name: str, limit: float) -> Wanted:
    """A time."""
    return Wanted(name, f"<= {limit:g}", lambda value: value <= limit * MARGIN)


def shown(name: str) -> Wanted:
    """A number that explains another one."""
    return Wanted(name, "", None)
