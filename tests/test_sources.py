"""What the template's own files promise each other."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import snapshot
from tests.snapshot import ROOT

SERVICE = Path("{{cookiecutter.__project_dir}}")
HOOKS = sorted((ROOT / "hooks").glob("*.py"))
REQUIREMENTS = sorted((ROOT / SERVICE / "requirements").glob("*.txt"))
EXTRAS = ["mysql", "postgresql", "redis", "tracing"]
# The files that name the owner's package or the database, each in one line.
ONE_LINE = {
    SERVICE / "gunicorn.conf.py",
    SERVICE / "migrations" / "env.py",
    SERVICE / "src" / "{{cookiecutter.package_name}}" / "settings.py",
}
JINJA = re.compile(r"\{\{|\{%|\{#|cookiecutter")


def _python() -> list[Path]:
    return [p for p in snapshot.files() if p.suffix == ".py" and p.is_relative_to(SERVICE)]


def _lines_with_jinja(path: Path) -> list[str]:
    return [line for line in (ROOT / path).read_text("utf-8").splitlines() if JINJA.search(line)]


def _pins(path: Path) -> dict[str, str]:
    """Package and version (with marker) of a lock, and the hashes that go with them."""
    pins: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", path.read_text().strip()):
        name, _, rest = block.partition("==")
        pins[name] = rest
    return pins


def test_jinja_in_python_stands_on_import_lines_and_three_others() -> None:
    kit = {SERVICE / "src" / "threadkit", SERVICE / "tests" / "threadkit"}
    own = SERVICE / "tests" / "{{cookiecutter.package_name}}"
    verbatim = json.loads((ROOT / "cookiecutter.json").read_text())["_copy_without_render"]
    for path in _python():
        lines = _lines_with_jinja(path)
        if kit & set(path.parents):
            assert not [line for line in lines if "cookiecutter" in line], path
        elif path in ONE_LINE:
            assert len(lines) == 1, path
        elif path.is_relative_to(own):
            assert all(re.match(r"(from|import) ", line) for line in lines), path
        elif not any(path.relative_to(SERVICE).match(pattern) for pattern in verbatim):
            assert not [line for line in lines if "cookiecutter" in line], path


def test_hooks_import_the_standard_library_alone() -> None:
    assert HOOKS
    for hook in HOOKS:
        for node in ast.walk(ast.parse(hook.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert {n.partition(".")[0] for n in names} <= sys.stdlib_module_names


def test_the_hook_takes_every_answer_as_data_and_in_one_place() -> None:
    (hook,) = HOOKS
    (line,) = [line for line in hook.read_text().splitlines() if "{{" in line]
    assert "json.loads({{cookiecutter | tojson | tojson}})" in line


def test_the_hook_knows_the_choices_on_offer() -> None:
    offered = json.loads((ROOT / "cookiecutter.json").read_text())
    tree = ast.parse((ROOT / "hooks" / "pre_gen_project.py").read_text())
    (known,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CHOICES"
    ]
    lists = {k: tuple(v) for k, v in offered.items() if isinstance(v, list) and k[0] != "_"}
    assert known == lists


def test_no_package_can_hide_what_the_service_installs_or_has_a_folder_of(service: Path) -> None:
    script = "import importlib.metadata as m; print(*m.packages_distributions(), sep='\\n')"
    python = service / "bin" / "python"
    found = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    inside = [p.relative_to(SERVICE) for p in snapshot.files() if p.is_relative_to(SERVICE)]
    names = set(found.stdout.split())
    names |= {p.parts[0] for p in inside if len(p.parts) > 1}
    names |= {p.parts[1].removesuffix(".py") for p in inside if p.parts[0] == "tests"}
    importable = {name for name in names if re.fullmatch(r"[a-z][a-z0-9_]*", name)}
    source = (ROOT / "hooks" / "pre_gen_project.py").read_text()
    listed = re.search(r'TAKEN = frozenset\(\s*"""(.*?)"""', source, re.DOTALL)
    assert listed
    assert importable - sys.stdlib_module_names - set(listed[1].split()) == set()


@pytest.mark.parametrize("path", [*REQUIREMENTS, ROOT / "requirements.txt"], ids=lambda p: p.stem)
def test_a_lock_has_a_hash_for_everything_and_names_no_index(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"://|--index|--extra-index|--find-links|--trusted|#", text)
    for name, pin in _pins(path).items():
        assert "--hash=sha256:" in pin, name


def test_the_locks_agree_with_each_other() -> None:
    names = {p.stem for p in REQUIREMENTS}
    assert names == {"dev", "runtime", *EXTRAS}
    pins = {p.stem: _pins(p) for p in REQUIREMENTS}
    everything = pins.pop("dev")
    for name, lock in pins.items():
        assert lock.keys() >= pins["runtime"].keys()
        for package, pin in lock.items():
            assert _version(everything[package]) == _version(pin), (name, package)


def _version(pin: str) -> str:
    return re.split(r"[ ;\\]", pin)[0]


def test_the_locks_hold_what_the_metadata_asks_for() -> None:
    """Read unrendered: the file is valid before it is baked, so that tools work in place."""
    content = tomllib.loads((ROOT / SERVICE / "pyproject.toml").read_text())
    project = content["project"]
    wanted = {"runtime": project["dependencies"], "dev": content["dependency-groups"]["dev"]}
    wanted |= project["optional-dependencies"]
    for name, requirements in wanted.items():
        pins = _pins(ROOT / SERVICE / "requirements" / f"{name}.txt")
        assert {re.split(r"[\[<>=~]", r)[0] for r in requirements} <= pins.keys()


def test_gunicorn_is_pinned_exactly() -> None:
    content = tomllib.loads((ROOT / SERVICE / "pyproject.toml").read_text())
    (pin,) = [r for r in content["project"]["dependencies"] if r.startswith("gunicorn")]
    assert re.fullmatch(r"gunicorn==\d+\.\d+\.\d+", pin)
