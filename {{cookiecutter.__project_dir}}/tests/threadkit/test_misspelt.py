"""A near miss of a setting's name is told, anything else in the environment is not."""

from __future__ import annotations

import pytest

from threadkit import Settings
from threadkit.misspelt import warnings


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("REQUEST_TIMOUT", "REQUEST_TIMEOUT"),
        ("REQEUST_TIMEOUT", "REQUEST_TIMEOUT"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("WORKER", "WORKERS"),
        ("database_url", None),
        ("REDIS_HOST", None),
        ("REDIS_PORT_6379_TCP", None),
        ("PATH", None),
    ],
)
def test_a_near_miss_names_what_was_meant(variable: str, setting: str | None) -> None:
    found = list(warnings({variable: "1"}, Settings.model_fields))
    expected = f"{variable} is set and is no setting: did you mean {setting}?"
    assert found == ([expected] if setting else [])


def test_a_setting_that_is_set_is_not_offered() -> None:
    environ = {"REQUEST_TIMEOUT": "1", "REQUEST_TIMEOUT_": "2"}
    assert list(warnings(environ, Settings.model_fields)) == []
