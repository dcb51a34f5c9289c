"""The README tells the truth: its settings, its worked example and its commands are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from threadkit.settings import Settings

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
(OWNER,) = [p.name for p in (PROJECT / "src").iterdir() if (p / "app.py").is_file()]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project, to be changed."""
    target = tmp_path / "project"
    for name in ("src", "tests", "migrations"):
        shutil.copytree(
            PROJECT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.db")
        )
    for name in ("pyproject.toml", "README.md", "gunicorn.conf.py"):
        shutil.copy(PROJECT / name, target / name)
    return target


def run(project: Path, *arguments: str) -> str:
    """A command of this interpreter in ``project``, which must succeed."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src"), "DATABASE_URL": "sqlite:///t.db"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def settings_class() -> type[Settings]:
    found: type[Settings] = import_module(f"{OWNER}.settings").Settings
    return found


def rows() -> dict[str, str]:
    return dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", README, re.MULTILINE))


def test_the_table_of_settings_holds_every_setting_and_no_other() -> None:
    assert set(rows()) == {name.upper() for name in settings_class().model_fields}


def test_the_defaults_in_the_table_are_those_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings_class().model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    settings = settings_class().load(database_url="sqlite:///x.db")
    for variable, told in rows().items():
        value = getattr(settings, variable.lower())
        if match := re.fullmatch(r"as `([A-Z_]+)`", told):
            assert value == getattr(settings, match[1].lower())
        elif told in ("none", "any"):
            assert not value
        elif told.startswith("`") and variable != "DATABASE_URL":
            assert told.strip("`") == (f"{value:g}" if isinstance(value, float) else str(value))


@pytest.mark.skipif(
    (PROJECT / f"src/{OWNER}/handlers/greetings.py").exists(), reason="you have followed it"
)
@pytest.mark.parametrize("where", ["beside", "at the end"])
def test_the_worked_example_works(copy: Path, where: str) -> None:
    blocks = dict(re.findall(r"```python\n# (src/\S+)\n(.*?)```", README, re.DOTALL))
    handlers = f"src/{OWNER}/handlers"
    (copy / handlers / "greetings.py").write_text(blocks[f"{handlers}/greetings.py"])
    package = copy / handlers / "__init__.py"
    marker = "from .items" if where == "beside" else r"\Z"
    line = blocks[f"{handlers}/__init__.py"]
    package.write_text(re.sub(f"(?={marker})", line, package.read_text(), count=1))
    script = """
from OWNER.app import create_app
client = create_app().test_client()
assert client.get("/v1/greetings/Ada?times=2").json == {"text": "Hello, Hello, Ada"}
answer = client.get("/v1/greetings/Ada?times=11")
assert answer.status_code == 422, answer.status_code
assert "less than or equal to 10" in answer.get_json()["errors"][0]["message"]
assert "/v1/greetings/{name}" in client.get("/openapi.json").get_json()["paths"]
"""
    run(copy, "-c", script.replace("OWNER", OWNER))
    if where == "beside":  # elsewhere it works, and is untidy
        run(copy, "-m", "ruff", "check", "--no-cache", handlers)


@pytest.mark.skipif(
    len(list((PROJECT / "migrations/versions").glob("*.py"))) != 1,
    reason="you have migrations of your own: the example's is part of your history by now",
)
def test_the_example_goes_away_with_one_command(copy: Path) -> None:
    (command,) = re.findall(r"^find .*items\.py.*$", README, re.MULTILINE)
    subprocess.run(["sh", "-c", command], cwd=copy, check=True, timeout=30)
    left = [
        path
        for folder in ("src", "migrations")
        for path in (copy / folder / OWNER if folder == "src" else copy / folder).rglob("*.py")
        if "items" in path.name
    ]
    assert left == []
    run(copy, "-m", "alembic", "upgrade", "head")
    run(
        copy,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{OWNER}"),
        *("tests/test_architecture.py", "tests/end_to_end"),
    )


def test_every_path_in_the_tree_exists() -> None:
    (tree,) = re.findall(r"## Where things live\n\n```\n(.*?)```", README, re.DOTALL)
    stack: list[str] = []
    for line in tree.splitlines():
        indent = (len(line) - len(line.lstrip())) // 2
        stack[indent:] = [line.split()[0]]
        assert (PROJECT / "/".join(part.strip("/") for part in stack)).exists(), line


def test_every_picture_it_shows_exists() -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert len(shown) >= 2
    assert [path for path in shown if not (PROJECT / path).is_file()] == []


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", README)) <= targets
