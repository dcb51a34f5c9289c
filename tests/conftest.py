"""Bakes for every test: each set of answers is baked once, from the files that git sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import pytest
from cookiecutter.main import cookiecutter

from tests import service_venv, snapshot


class Bake(Protocol):
    """Bakes the template with these answers, the others by default; shared, so read-only."""

    def __call__(self, **options: str) -> Path: ...


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the template as git would hand it out."""
    return snapshot.copy(tmp_path_factory.mktemp("template") / "template")


@pytest.fixture(scope="session")
def user_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of cookiecutter's that keeps it out of the user's home."""
    folder = tmp_path_factory.mktemp("config")
    path = folder / "config.yaml"
    folders = {name: str(folder / name) for name in ("cookiecutters_dir", "replay_dir")}
    path.write_text(json.dumps(folders))
    return path


@pytest.fixture(scope="session")
def bake(template: Path, user_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Bake:
    baked: dict[frozenset[tuple[str, str]], Path] = {}

    def _bake(**options: str) -> Path:
        key = frozenset(options.items())
        if key not in baked:
            output = tmp_path_factory.mktemp("bake")
            baked[key] = Path(
                cookiecutter(
                    str(template),
                    no_input=True,
                    extra_context=options,
                    output_dir=str(output),
                    config_file=str(user_config),
                )
            )
        return baked[key]

    return _bake


@pytest.fixture(scope="session")
def service() -> Path:
    """An environment with what a bake's requirements/dev.txt installs."""
    return service_venv.make()
