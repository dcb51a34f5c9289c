"""The fallback puts back what it changes, whatever happens."""

from __future__ import annotations

import sys
import threading

import pytest

from threadkit.profiling import inprocess
from threadkit.profiling.cpu import CPU
from threadkit.profiling.profile import Profile, ValueType
from threadkit.profiling.threads import Unsupported
from threadkit.profiling.window import Abandoned, Window


def empty() -> Profile:
    return Profile((ValueType("samples", "count"), CPU), period=10_000_000)


@pytest.mark.parametrize("before", [0.005, 0.02, 1e-5])
def test_the_switch_interval_comes_back(before: float) -> None:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(before)
    try:
        inprocess.sample(empty(), Window(0.05), [])
        assert sys.getswitchinterval() == pytest.approx(before)
    finally:
        sys.setswitchinterval(usual)


def test_it_comes_back_when_the_client_leaves() -> None:
    usual = sys.getswitchinterval()
    left = threading.Event()
    left.set()
    with pytest.raises(Abandoned):
        inprocess.sample(empty(), Window(30, pause=left.wait), [])
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_without_the_gil_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(Unsupported, match="without the GIL"):
        inprocess.sample(empty(), Window(0.05), [])
