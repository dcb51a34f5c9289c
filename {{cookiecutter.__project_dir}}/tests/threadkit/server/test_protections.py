"""What is off is named, with its cause."""

from __future__ import annotations

import pytest

from threadkit.server import protections
from threadkit.settings import KIT_WORKER


def test_on_linux_with_the_kits_worker_nothing_is_off() -> None:
    assert protections.missing(KIT_WORKER, "linux") == {}


@pytest.mark.parametrize("worker", ["gthread", "sync"])
def test_another_worker_lacks_what_the_kits_own_does(worker: str) -> None:
    (cause,) = (off := protections.missing(worker, "linux"))
    assert cause == f"WORKER_CLASS={worker}"
    assert "DRAIN_DELAY" in " ".join(off[cause])
    assert "HTML, no request id" in " ".join(off[cause])


def test_elsewhere_more_is_off() -> None:
    off = protections.missing("gthread", "darwin")
    assert list(off) == ["WORKER_CLASS=gthread", "this is darwin and not Linux"]
    assert "clients that leave are not noticed" in off["this is darwin and not Linux"]
