"""A bake is clean by its own tools, and passes its own tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.snapshot import ROOT

# Of the greatest length, first and last in the alphabet: neither may move an import or a line.
LONG_NAMES = ["a" * 40, "z" * 40]


def _run(service: Path, project: Path, tool: str, *arguments: str, seconds: float = 300) -> str:
    """The tool's output; it must succeed, in the bake and with what the bake's lock installs."""
    environment = {
        **os.environ,
        "PATH": f"{service / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(project / "src"),  # stands for `pip install --editable .`
    }
    result = subprocess.run(
        [str(service / "bin" / tool), *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if result.returncode != 0:
        pytest.fail(f"{result.stdout[-20_000:]}\n{result.stderr[-5_000:]}", pytrace=False)
    return result.stdout


@pytest.fixture(params=["my_service", *LONG_NAMES], ids=["default", "a…", "z…"])
def project(bake: Bake, request: pytest.FixtureRequest) -> Path:
    """The default bake, and two whose package's name is as long as can be."""
    return bake() if request.param == "my_service" else bake(package_name=request.param)


def test_ruff_finds_nothing_in_it(project: Path, service: Path) -> None:
    _run(service, project, "ruff", "check", "--no-cache")


def test_it_is_formatted(project: Path, service: Path) -> None:
    _run(service, project, "ruff", "format", "--check", "--no-cache")


def test_its_types_are_strict_and_right(project: Path, service: Path) -> None:
    """All bakes share a cache: the kit is the same in each, and is looked at once."""
    _run(service, project, "mypy", "--cache-dir", str(ROOT / ".cache" / "mypy-bakes"))


def test_the_default_bake_passes_its_tests(bake: Bake, service: Path, tmp_path: Path) -> None:
    project = shutil.copytree(bake(), tmp_path / "my-service")
    output = _run(service, project, "python", "-m", "pytest", "--color=no", seconds=1500)
    counts = re.search(r"^=+ (\d+) passed.* in ", output, re.MULTILINE)
    assert counts
    assert int(counts[1]) > 0
    print(output[-2_000:])


@pytest.mark.parametrize("database", ["postgresql", "mysql"])
def test_a_bake_for_another_database_passes_the_tests_that_could_tell(
    bake: Bake, service: Path, tmp_path: Path, database: str
) -> None:
    """The kit is the same in every bake; what an owner has, and its documentation, is not."""
    project = shutil.copytree(bake(database=database), tmp_path / "my-service")
    tests = ["tests/my_service", *(str(p) for p in (project / "tests").glob("test_*.py"))]
    output = _run(service, project, "python", "-m", "pytest", "--color=no", *tests)
    assert re.search(r"^=+ \d+ passed.* in ", output, re.MULTILINE)
