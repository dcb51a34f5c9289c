"""The environment that bakes are checked in: what a bake's requirements/dev.txt installs.

    python tests/service_venv.py        # makes it, where it is not there yet; prints its path

It stays in .cache/ under the lock's hash, so a second run takes it as it is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "{{cookiecutter.__project_dir}}" / "requirements" / "dev.txt"


def make() -> Path:
    """The environment's folder; made anew when the lock or the interpreter has changed."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = ROOT / ".cache" / f"service-{digest}"
    complete = folder / "complete"
    if not complete.exists():
        for old in folder.parent.glob("service-*"):
            shutil.rmtree(old)
        _uv("venv", "--python", sys.executable, str(folder))
        python = str(folder / "bin" / "python")
        _uv("pip", "install", "--python", python, "--require-hashes", "--requirement", str(LOCK))
        complete.touch()
    return folder


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    environment = {**os.environ, "UV_LINK_MODE": "copy", "UV_NO_PROGRESS": "1"}
    subprocess.run([uv, *arguments, "--quiet", "--no-config"], env=environment, check=True)


if __name__ == "__main__":
    print(make())
