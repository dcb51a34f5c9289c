"""Whatever is answered, a bake is complete, plain and always the same."""

from __future__ import annotations

import json
import re
import statistics
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import yaml
from cookiecutter.main import cookiecutter

from tests.conftest import Bake
from tests.snapshot import ROOT

SERVICE = ROOT / "{{cookiecutter.__project_dir}}"
OPTIONS: dict[str, Any] = json.loads((ROOT / "cookiecutter.json").read_text("utf-8"))
CHOICES: dict[str, list[str]] = {
    name: answers
    for name, answers in OPTIONS.items()
    if isinstance(answers, list) and name[0] != "_"
}
# Every value of every option, and every pair of a database and a place to run.
SUPPORTED: list[dict[str, str]] = [
    {},
    {"database": "sqlite", "deploy": "kubernetes", "ci": "gitlab", "license": "Apache-2.0"},
    {"database": "sqlite", "deploy": "none", "ci": "none", "license": "Proprietary"},
    {"database": "postgresql", "deploy": "docker", "ci": "github", "license": "Proprietary"},
    {"database": "postgresql", "deploy": "kubernetes", "ci": "none", "license": "MIT"},
    {"database": "postgresql", "deploy": "none", "ci": "gitlab", "license": "Apache-2.0"},
    {"database": "mysql", "deploy": "docker", "ci": "gitlab", "license": "MIT"},
    {"database": "mysql", "deploy": "kubernetes", "ci": "github", "license": "Apache-2.0"},
    {"database": "mysql", "deploy": "none", "ci": "none", "license": "Proprietary"},
]
supported = pytest.mark.parametrize(
    "options", SUPPORTED, ids=lambda options: "-".join(options.values()) or "default"
)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _texts(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in _files(folder).items() if name[-4:] != ".png"}


@supported
def test_pictures_are_copied_as_they_are(bake: Bake, options: dict[str, str]) -> None:
    pictures = sorted((ROOT / "{{cookiecutter.__project_dir}}" / "docs").rglob("*.png"))
    baked = bake(**options) / "docs" / "pictures"
    assert pictures
    for picture in pictures:
        assert (baked / picture.name).read_bytes() == picture.read_bytes()
        assert picture.stat().st_size < 150_000


def test_every_value_of_every_option_is_baked() -> None:
    defaults = {name: answers[0] for name, answers in CHOICES.items()}
    for name, answers in CHOICES.items():
        assert {(defaults | options)[name] for options in SUPPORTED} == set(answers)


def test_every_option_is_asked_for_in_words() -> None:
    asked = [name for name in OPTIONS if not name.startswith("_")]
    prompts = OPTIONS["__prompts__"]
    assert list(prompts) == asked
    for name, answers in CHOICES.items():
        assert set(prompts[name]) == {"__prompt__", *answers}


@supported
def test_no_jinja_is_left_over(bake: Bake, options: dict[str, str]) -> None:
    verbatim = [pattern + end for pattern in OPTIONS["_copy_without_render"] for end in ("", "/*")]
    for name, content in _texts(bake(**options)).items():
        # ${{ … }} is how GitHub's pipelines write their own expressions.
        text = re.sub(r"\$\{\{.*?\}\}", "", content.decode("utf-8"))
        assert not re.search(r"\{\{|\{%|cookiecutter", name)
        if not any(fnmatch(name, pattern) for pattern in verbatim):
            assert not re.search(r"\{\{|\{%|\{#|cookiecutter\.", text), name


@supported
def test_what_tools_read_can_be_read(bake: Bake, options: dict[str, str]) -> None:
    for path in bake(**options).rglob("*"):
        if path.suffix == ".toml":
            tomllib.loads(path.read_text("utf-8"))
        elif path.suffix in (".yaml", ".yml"):
            list(yaml.load_all(path.read_text("utf-8"), Loader=yaml.BaseLoader))
        elif path.suffix == ".py":
            compile(path.read_text("utf-8"), path, "exec")


@supported
def test_no_file_is_empty_or_ends_without_a_line_break(bake: Bake, options: dict[str, str]) -> None:
    allowed = ("py.typed", "__init__.py")
    for name, content in _texts(bake(**options)).items():
        assert name.endswith(allowed) or content.endswith(b"\n"), name
        assert b"\r" not in content, name


@pytest.mark.parametrize("database", CHOICES["database"])
def test_a_database_sets_a_default_and_no_more(bake: Bake, database: str) -> None:
    """Files for the place to run follow it as well; the service itself does not."""
    default, other = (bake(database=name, deploy="none") for name in ("sqlite", database))
    differing = {
        name for name, content in _files(default).items() if _files(other)[name] != content
    }
    assert differing <= {"README.md", "src/my_service/settings.py"}
    settings = (other / "src" / "my_service" / "settings.py").read_text()
    assert ('"sqlite:///var/app.db"' in settings) is (database == "sqlite")


@pytest.mark.parametrize("license_", CHOICES["license"])
def test_a_licence_is_a_file_and_a_field_that_agree(bake: Bake, license_: str) -> None:
    project = bake(license=license_)
    text = (project / "LICENSE").read_text()
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    first_words = {"MIT": "MIT License", "Apache-2.0": "Apache License", "Proprietary": "Copyright"}
    assert text.lstrip().startswith(first_words[license_])
    assert metadata["license"].removeprefix("LicenseRef-") == license_


def test_the_kit_and_its_tests_are_copied_as_they_are(bake: Bake) -> None:
    project = bake(project_slug="other", package_name="other")
    for folder in ("src/threadkit", "tests/threadkit", "requirements"):
        ours = {n: c for n, c in _files(SERVICE / folder).items() if "__pycache__" not in n}
        assert ours == _files(project / folder)


def test_the_same_answers_give_the_same_bake(
    bake: Bake, template: Path, user_config: Path, tmp_path: Path
) -> None:
    again = cookiecutter(
        str(template), no_input=True, output_dir=str(tmp_path), config_file=str(user_config)
    )
    assert _files(Path(again)) == _files(bake())


def test_a_bake_carries_no_cache(bake: Bake) -> None:
    names = {part for name in _files(bake()) for part in Path(name).parts}
    assert not names & {"__pycache__", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def test_a_bake_takes_less_than_two_seconds(
    template: Path, user_config: Path, tmp_path: Path
) -> None:
    seconds = []
    for number in range(5):
        start = perf_counter()
        cookiecutter(
            str(template),
            no_input=True,
            output_dir=str(tmp_path / str(number)),
            config_file=str(user_config),
        )
        seconds.append(perf_counter() - start)
    assert statistics.median(seconds) < 2
