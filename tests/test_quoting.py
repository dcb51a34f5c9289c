"""An odd but honest answer arrives in every file as the data that it is."""

from __future__ import annotations

import email
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment
from markdown_it import MarkdownIt

from local_extensions import Quoting
from tests.conftest import Bake

ODD = {
    "quotes": "The \"best\" of 'all'",
    "backslashes": r"C:\new\temp \u0041 \\",
    "comment": "C# # not a comment",
    "mapping": "key: value, - item, ? what, ! tag, & anchor, * alias, % x, @ y, ` z",
    "brackets": "[a](b) <b>c</b> {d} $e$ ${f} $(g) ~h~ | i | ![j](k)",
    "emoji": "Café 👩‍💻 für Ångström 注文",
    "heading": "# not a heading",
    "list": "1. not a list",
    "dash": "- not a list either",
    "rule": "=== ___ *** ``` ~~~",
    "entities": "Fish &amp; chips &lt;3",
    "command": '"; import os; os.abort(); "',
}
odd = pytest.mark.parametrize("text", ODD.values(), ids=ODD)


def _render(template: str, text: str) -> str:
    environment = Environment(extensions=[Quoting], autoescape=False)
    return environment.from_string(template).render(answer=text)


@odd
def test_toml_and_yaml_read_back_what_was_answered(text: str) -> None:
    with_controls = text + "\t\n\x1b\x7f\u2028\u202e"
    for value in (text, with_controls):
        toml = _render('answer = "{{ answer | toml }}"', value)
        assert tomllib.loads(toml) == {"answer": value}
        document = _render('answer: "{{ answer | yaml }}"', value)
        assert yaml.safe_load(document) == {"answer": value}


@odd
@pytest.mark.parametrize("place", ["# {}\n", "{}\n", "Text, {}, text\n", "- {}\n", "| {} |\n|-|\n"])
def test_markdown_shows_what_was_answered(place: str, text: str) -> None:
    parser = MarkdownIt("commonmark").enable("table")
    (shown,) = [
        "".join(child.content for child in token.children or [])
        for token in parser.parse(_render(place.format("{{ answer | markdown }}"), text))
        if token.type == "inline"
    ]
    assert shown == place.strip("#-| \n").replace("{}", text)


@odd
def test_a_bake_holds_the_answer_as_data(bake: Bake, text: str) -> None:
    project = bake(
        project_name=text, project_slug="odd", package_name="odd", description=text, author=text
    )
    metadata = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["description"] == text
    assert metadata["authors"] == [{"name": text}]
    assert f"Copyright (c) {text}\n" in (project / "LICENSE").read_text("utf-8")


@pytest.mark.parametrize("name", ["quotes", "backslashes", "emoji", "command"])
def test_the_service_still_builds(bake: Bake, service: Path, tmp_path: Path, name: str) -> None:
    text = ODD[name]
    project = bake(
        project_name=text, project_slug="odd", package_name="odd", description=text, author=text
    )
    python, target = str(service / "bin" / "python"), str(tmp_path)
    build = [python, "-m", "hatchling", "build", "-t", "wheel", "-d", target]
    subprocess.run(build, cwd=project, capture_output=True, timeout=60, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        (entry,) = [n for n in wheel.namelist() if n.endswith("/METADATA")]
        metadata = email.message_from_string(wheel.read(entry).decode("utf-8"))
        names = {n.partition("/")[0] for n in wheel.namelist()}
    assert metadata["Summary"] == text
    assert names == {"odd", "threadkit", "odd-0.1.0.dist-info"}


def test_an_answer_at_the_prompt_is_never_run_as_a_template(
    template: Path, user_config: Path, tmp_path: Path
) -> None:
    tool = str(Path(sys.executable).with_name("cookiecutter"))
    author = "{{ 7 * 7 }} {% raw %}"
    subprocess.run(
        [tool, template, "--config-file", user_config, "-o", tmp_path],
        input="\n" * 4 + author + "\n" * 5,
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    content = tomllib.loads((tmp_path / "my-service" / "pyproject.toml").read_text("utf-8"))
    assert content["project"]["authors"] == [{"name": author}]
