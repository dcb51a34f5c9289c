"""The page of text: what is largest stands first, by place, by the owner's function, by label."""

from __future__ import annotations

import threading
from pathlib import Path

import threadkit
from threadkit.profiling.profile import Frame, Profile, ValueType, labels
from threadkit.profiling.top import ROWS, top

OWN = "/srv/shop/handlers.py"
KIT = str(Path(threadkit.__file__).parent / "web/middleware.py")
TYPES = (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"))


def profile() -> Profile:
    found = Profile(TYPES, default_type="cpu", comments=["engine: py-spy"])
    kit, handler = Frame("answer", KIT, 9), Frame("report", OWN, 40)
    report = labels(endpoint="/report", state="running")
    found.add((Frame("sum_up", OWN, 12), handler, kit), (3, 3_000_000_000), report)
    found.add((Frame("sum_up", OWN, 11), handler, kit), (1, 1_000_000_000), report)
    found.add((Frame("wait", threading.__file__, 7), handler, kit), (1, 500_000_000), report)
    found.add((Frame("wait", threading.__file__, 7),), (9, 9_000_000_000), labels(state="idle"))
    found.add((kit,), (1, 500_000_000))
    return found


def test_places_functions_and_labels_stand_largest_first() -> None:
    assert (
        top(profile(), "profile")
        == f"""\
profile: 5.00 s of cpu
# engine: py-spy
# 9.00 s of idle threads, left out

where it is:
      4.00 s  80.0 %  sum_up  {OWN}:12
    500.0 ms  10.0 %  wait  {threading.__file__}:7
    500.0 ms  10.0 %  answer  {KIT}:9

your functions, with all that they call:
      4.50 s  90.0 %  report  {OWN}:40
      4.00 s  80.0 %  sum_up  {OWN}:12

by endpoint:
      4.50 s  90.0 %  /report

by state:
      4.50 s  90.0 %  running
"""
    )


def test_a_function_that_calls_itself_counts_once() -> None:
    found = Profile(TYPES[:1])
    again = Frame("again", OWN, 5)
    found.add((again, again, Frame("start", OWN, 9)), (7,))
    assert "           7 100.0 %  again" in top(found, "profile")
    assert "14" not in top(found, "profile")


def test_long_tables_end_and_say_so() -> None:
    found = Profile((ValueType("inuse_space", "bytes"),))
    for number in range(ROWS + 3):
        found.add((Frame(f"f{number}", "m.py", 1),), (2**20 + number,))
    assert top(found, "heap").count("1.0 MiB") == ROWS
    assert "and 3 more" in top(found, "heap")


def test_what_a_delta_has_less_of_has_no_line_and_nothing_is_told_as_such() -> None:
    found = Profile((ValueType("goroutine", "count"),))
    found.add((Frame("gone", OWN, 1),), (-3,))
    assert top(found, "goroutine") == "goroutine: 0\nnothing was seen\n"
