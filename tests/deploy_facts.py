"""What the tests of the deployment's files and of the pipelines share."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path


def settings_of(project: Path) -> set[str]:
    """The environment variables that the kit of a bake reads, from its source."""
    tree = ast.parse((project / "src" / "threadkit" / "settings.py").read_text("utf-8"))
    (settings,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Settings")
    fields = (n.target for n in settings.body if isinstance(n, ast.AnnAssign))
    return {field.id.upper() for field in fields if isinstance(field, ast.Name)}


def passes(tool: str, *arguments: str | Path) -> None:
    """Run a checker of this environment; what it finds is the failure's text."""
    command = [str(Path(sys.executable).with_name(tool)), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
