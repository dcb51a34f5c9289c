"""Numbers that are right over all workers, with labels that nobody can multiply."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A script in a process of its own, since an import decides where numbers go."""

    def run(script: str, *, shared: bool = True) -> list[str]:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        if shared:
            environ["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith("http_")]

    return run


FORK = """
import os, sys
from threadkit.observability import metrics
def child(work):
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
"""
SHOW = "sys.stdout.write(metrics.render()[0].decode())\n"


def test_counters_and_histograms_sum_over_processes(run: Run) -> None:
    lines = run(
        FORK
        + "def work():\n"
        + "    for _ in range(3): metrics.observe('GET', '/v1/items', 200, 0.02)\n"
        + "child(work); child(work); work()\n"
        + SHOW
    )
    labels = 'method="GET",route="/v1/items"'
    assert "http_requests_total{" + labels + ',status="200"} 9.0' in lines
    assert "http_request_duration_seconds_count{" + labels + "} 9.0" in lines


def test_a_dead_worker_has_no_requests_in_flight(run: Run) -> None:
    lines = run(
        FORK
        + "from prometheus_client.multiprocess import mark_process_dead\n"
        + "dead = child(metrics.enter); metrics.enter(); mark_process_dead(dead)\n"
        + SHOW
    )
    assert "http_requests_in_flight 1.0" in lines


def test_enter_and_leave_balance(run: Run) -> None:
    lines = run(FORK + "metrics.enter(); metrics.leave('GET', '/', 499, 1.5)\n" + SHOW)
    assert "http_requests_in_flight 0.0" in lines
    assert 'http_requests_total{method="GET",route="/",status="499"} 1.0' in lines


def test_what_clients_invent_makes_no_label(run: Run) -> None:
    lines = run(
        FORK
        + "for n in range(50):\n"
        + "    metrics.observe(f'METHOD{n}', None, 404, 0.01)\n"
        + SHOW
    )
    totals = [line for line in lines if line.startswith("http_requests_total")]
    assert totals == ['http_requests_total{method="OTHER",route="unmatched",status="404"} 50.0']


def test_without_a_shared_folder_the_numbers_are_the_processs_own(run: Run) -> None:
    lines = run(FORK + "metrics.observe('GET', '/', 200, 0.01)\n" + SHOW, shared=False)
    assert 'http_requests_total{method="GET",route="/",status="200"} 1.0' in lines


def test_the_kit_leaves_prometheus_alone_until_metrics_are_wanted(run: Run) -> None:
    run(
        "import sys\n"
        "import threadkit.runtime, threadkit.settings, threadkit.server, threadkit.listeners\n"
        "import threadkit.observability.logs\n"
        "assert 'prometheus_client' not in sys.modules\n"
    )
