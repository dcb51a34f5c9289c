"""How `make chaos` judges: a miss says so."""

from __future__ import annotations

import math

import pytest
from benchmarks.chaos.__main__ import judge, shown
from benchmarks.chaos.figures import Wanted, always, at_least, at_most, never_more, within

NAN = math.nan


@pytest.mark.parametrize(
    ("wanted", "stock", "ours", "verdict"),
    [
        (at_least("ratio", 0.9), 0.5, 0.9, ""),
        (at_least("ratio", 0.9), 0.5, 0.899, "MISSED"),
        (at_least("ratio", 0.9), 1.0, 0.95, "stock as well"),
        (at_most("ratio", 3.0), 9.0, 3.001, "MISSED"),
        (never_more("count", 0), NAN, 0, ""),
        (never_more("count", 0), NAN, 1, "MISSED"),
        (within("seconds", 1.0), 9.0, 1.04, ""),
        (within("seconds", 1.0), 9.0, 1.06, "MISSED"),
        (within("seconds", 1.0), 9.0, math.inf, "MISSED"),
        (within("seconds", 1.0), 9.0, NAN, "MISSED"),
    ],
)
def test_only_times_have_a_margin(wanted: Wanted, stock: float, ours: float, verdict: str) -> None:
    assert judge(wanted, stock, ours) == verdict


def test_rounds_are_summed_up_by_their_median_or_their_worst() -> None:
    rounds = [{"n": 1.0}, {"n": 3.0}, {"n": 2.0}]
    assert [w.of(rounds) for w in (at_least("n", 0), always("n", 0), never_more("n", 0))] == [
        2.0,
        1.0,
        3.0,
    ]
    assert shown(within("other", 1.0).of(rounds)) == "-"
