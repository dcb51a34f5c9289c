"""So many in so many seconds, whoever asks."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from threadkit.server.budget import Budget


def test_it_grants_so_many_in_a_period_and_then_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    asked = Budget(tmp_path, "name", 2, 60)
    assert [asked.take() for _ in range(3)] == [True, True, False]
    now += 59
    assert not asked.take()
    now += 2
    assert [asked.take() for _ in range(3)] == [True, True, False]


def test_a_clock_that_began_anew_does_not_count_against_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that outlived a boot."""
    monkeypatch.setattr(time, "monotonic", lambda: 1e6)
    assert Budget(tmp_path, "name", 1, 60).take()
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    assert Budget(tmp_path, "name", 1, 60).take()


def test_threads_that_ask_together_get_no_more(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        granted = list(pool.map(lambda _: Budget(tmp_path, "n", 3, 60).take(), range(64)))
    assert sum(granted) == 3


def ask(folder: Path, _: int) -> bool:
    return Budget(folder, "n", 3, 60).take()


def test_processes_share_it(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        granted = pool.starmap(ask, [(tmp_path, n) for n in range(8)])
    assert sum(granted) == 3


def test_without_a_folder_nothing_is_shared() -> None:
    assert all(Budget(None, "name", 1, 60).take() for _ in range(3))
