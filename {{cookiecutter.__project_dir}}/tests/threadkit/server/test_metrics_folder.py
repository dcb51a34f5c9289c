"""One folder a master: private, empty at the start, gone at the end."""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
from pathlib import Path

import pytest

from threadkit.server import metrics_folder


def test_a_claim_is_a_private_empty_folder_named_in_the_environment() -> None:
    folder = metrics_folder.claim()
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == []


def test_a_reload_claims_the_same_one() -> None:
    folder = metrics_folder.claim()
    (folder / "counter_1.db").touch()
    assert metrics_folder.claim() == folder
    assert (folder / "counter_1.db").exists()


def test_an_inherited_folder_is_neither_used_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(others))
    monkeypatch.setenv("THREADKIT_METRICS_MASTER", str(os.getpid() + 1))
    metrics_folder.release()
    assert others.is_dir()
    assert metrics_folder.claim() != others


def test_only_the_process_that_claimed_it_removes_it() -> None:
    folder = metrics_folder.claim()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # no thread of ours is running
        pid = os.fork()
    if not pid:
        metrics_folder.release()
        os._exit(0)
    os.waitpid(pid, 0)
    assert folder.is_dir()
    metrics_folder.release()
    assert not folder.exists()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


def test_a_dead_worker_takes_only_its_live_numbers_with_it() -> None:
    folder = metrics_folder.claim()
    for name in ("gauge_livesum_77.db", "gauge_livesum_78.db", "counter_77.db"):
        (folder / name).touch()
    metrics_folder.worker_died(77)
    assert sorted(f.name for f in folder.iterdir()) == ["counter_77.db", "gauge_livesum_78.db"]


def test_nowhere_to_write_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(SystemExit, match="Set TMPDIR to a writable one"):
        metrics_folder.claim()
