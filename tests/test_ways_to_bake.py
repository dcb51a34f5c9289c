"""Each of cookiecutter's ways to take answers leads to the service that they describe."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import Bake


@pytest.fixture
def command(template: Path, user_config: Path, tmp_path: Path) -> list[str]:
    """The command as a user types it in the template's folder; its output is in tmp_path."""
    tool = str(Path(sys.executable).with_name("cookiecutter"))
    return [tool, str(template), "--config-file", str(user_config), "-o", str(tmp_path)]


def _run(command: list[str], answers: str = "") -> str:
    result = subprocess.run(
        command, input=answers, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def _name(project: Path) -> str:
    content = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    name: str = content["project"]["name"]
    return name


def test_asked_for_every_option_and_taking_the_defaults(
    command: list[str], tmp_path: Path, bake: Bake
) -> None:
    output = _run(command, "\n" * 9)
    assert "[9/9] Licence" in output
    assert "__" not in output
    expected, actual = bake() / "pyproject.toml", tmp_path / "my-service" / "pyproject.toml"
    assert actual.read_bytes() == expected.read_bytes()


def test_answers_at_the_prompt_are_followed_by_what_derives_from_them(
    command: list[str], tmp_path: Path
) -> None:
    _run(command, "Order Desk\n" + "\n" * 4 + "2\n" + "\n" * 3)
    assert (tmp_path / "order-desk" / "src" / "order_desk" / "app.py").is_file()
    settings = (tmp_path / "order-desk" / "src" / "order_desk" / "settings.py").read_text()
    assert "sqlite" not in settings


def test_no_input_takes_answers_from_the_command_line(command: list[str], tmp_path: Path) -> None:
    _run([*command, "--no-input", "project_name=Order Desk", "ci=none"])
    assert _name(tmp_path / "order-desk") == "order-desk"
    assert not list((tmp_path / "order-desk").glob(".gitlab*"))


def test_a_replay_bakes_the_same_again(command: list[str], tmp_path: Path) -> None:
    _run([*command, "--no-input", "project_name=Order Desk", "license=Apache-2.0"])
    first = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    _run([*command, "--replay", "--overwrite-if-exists"])
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == first


def test_a_configuration_file_sets_defaults(
    template: Path, user_config: Path, tmp_path: Path
) -> None:
    config = json.loads(user_config.read_text())
    config["default_context"] = {"author": 'Ada: "the first"', "database": "mysql"}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    tool = str(Path(sys.executable).with_name("cookiecutter"))
    own = str(tmp_path / "config.yaml")
    _run([tool, str(template), "--config-file", own, "--no-input", "-o", str(tmp_path)])
    content = tomllib.loads((tmp_path / "my-service" / "pyproject.toml").read_text("utf-8"))
    assert content["project"]["authors"] == [{"name": 'Ada: "the first"'}]
