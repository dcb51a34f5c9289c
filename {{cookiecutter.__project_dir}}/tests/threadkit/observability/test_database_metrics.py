"""The pools' own counts become metrics, and totals stay totals."""

from __future__ import annotations

from threadkit.observability import metrics
from threadkit.observability.database_metrics import DatabaseMetrics


def lines() -> dict[str, float]:
    text = metrics.render()[0].decode()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("database_"))
    return {name: float(value) for name, value in pairs}


def test_gauges_are_copied_and_totals_grow_by_what_is_new() -> None:
    published = DatabaseMetrics()
    before = lines()
    published.publish({"read_in_use": 3, "read_size": 8, "read_wait_seconds": 1.5, "connects": 4})
    published.publish({"read_in_use": 2, "read_size": 8, "read_wait_seconds": 2.0, "connects": 5})
    after = lines()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert after['database_connections{pool="read",state="in_use"}'] == 2
    assert after['database_connections{pool="read",state="size"}'] == 8
    assert grown('database_wait_seconds_total{pool="read"}') == 2.0
    assert grown('database_events_total{event="connects"}') == 5
