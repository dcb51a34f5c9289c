"""gunicorn reads this when it is started in this folder; the kit decides what is in force."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
if (source := str(PROJECT / "src")) not in sys.path:
    sys.path.insert(0, source)

from threadkit.server import gunicorn_settings  # noqa: E402

from {{ cookiecutter.package_name }}.settings import Settings  # noqa: E402

globals().update(gunicorn_settings(Settings, PROJECT))
