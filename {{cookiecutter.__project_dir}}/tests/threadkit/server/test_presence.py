"""Which workers have loaded the application."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from threadkit import peers
from threadkit.server import boot, gunicorn_names, presence


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(peers, "_folder", tmp_path)
    return tmp_path


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(30)
    return process.pid


def test_a_worker_is_known_from_its_announcement_to_its_end() -> None:
    assert not presence.all_loaded([1])
    presence.announce(1)
    presence.announce(2)
    assert presence.all_loaded([1, 2])
    presence.forget(1)
    presence.forget(1)
    assert not presence.all_loaded([1, 2])
    assert presence.all_loaded([])


def test_who_is_succeeded_knows_it_and_its_number_is_free_again(folder: Path) -> None:
    assert not presence.is_succeeded(1)
    presence.announce(1)
    presence.succeed(1)
    assert presence.is_succeeded(1)
    assert not presence.is_succeeded(2)
    assert presence.loaded() == {1}
    presence.forget(1)
    assert not presence.is_succeeded(1)
    assert list(folder.iterdir()) == []


def test_others_serve_while_their_process_is_there() -> None:
    assert not presence.others_serve(os.getpid())
    presence.announce(os.getpid())
    presence.announce(gone())
    assert not presence.others_serve(os.getpid())
    assert presence.others_serve(gone())


def test_a_newcomer_comes_for_one_worker_alone() -> None:
    presence.announce(gone())
    before = presence.loaded()
    presence.announce(gone())
    assert not presence.take_newcomer(before)  # it has left again
    presence.announce(os.getpid())
    assert presence.take_newcomer(before)
    assert not presence.take_newcomer(before)
    presence.forget(os.getpid())
    presence.announce(os.getpid())  # the number is another worker's now
    assert presence.take_newcomer(before)
    assert not presence.take_newcomer({*before, os.getpid()})


def test_without_a_folder_nobody_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_folder", None)
    presence.announce(1)
    presence.forget(1)
    presence.succeed(1)
    assert not presence.is_succeeded(1)
    assert not presence.all_loaded([1])
    assert not presence.others_serve(1)
    assert not presence.take_newcomer(set())


def test_a_worker_that_cannot_start_does_not_end_those_that_serve() -> None:
    presence.announce(os.getppid())
    (code, *_) = gunicorn_names.BOOT_FAILURES
    with pytest.raises(SystemExit) as ended:
        boot.settle(code)
    assert ended.value.code == 0
    boot.settle(0)
