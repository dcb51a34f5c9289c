"""The template as git would hand it out: its files, and none of their caches.

    python tests/snapshot.py FOLDER

A folder that cookiecutter copies without rendering is copied whole, so a bake from a
working tree would carry ``__pycache__`` along.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What is left out where there is no git to ask.
LITTER = frozenset(
    {".cache", ".demo", ".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
    | {".venv", "__pycache__", "var"}
)


def files(root: Path = ROOT) -> list[Path]:
    """Relative paths: what git tracks and what it would, were it added."""
    found = _by_git(root)
    if found is None:
        found = _by_walk(root)
    return sorted(path for path in found if (root / path).is_file())


def _by_git(root: Path) -> list[Path] | None:
    if not (root / ".git").exists():
        return None
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        result = subprocess.run(command, cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    if result.returncode != 0:
        return None
    return [Path(os.fsdecode(name)) for name in result.stdout.split(b"\0") if name]


def _by_walk(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in LITTER]
        found += [(Path(folder) / name).relative_to(root) for name in names]
    return found


def copy(destination: Path, root: Path = ROOT) -> Path:
    """Copy the template into a folder, which is made."""
    for path in files(root):
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, target)
    return destination


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
