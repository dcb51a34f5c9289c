"""A start that fails says so once.

gunicorn halts as soon as it sees a worker that could not load its application. While it
waits for the others it sees the next such worker, halts from within halting, and ends with
a traceback about itself. So only the first worker that fails reports it by its exit code.
"""

from __future__ import annotations

import os
from pathlib import Path

from threadkit.server import gunicorn_names, metrics_folder

_CLAIM = "boot-failed"


def settle(exit_code: int) -> None:
    """As the last act of a worker: leave as if all were well, if another one has reported."""
    folder = os.environ.get(metrics_folder.VARIABLE)
    if folder is None or exit_code not in gunicorn_names.BOOT_FAILURES:
        return
    try:
        (Path(folder) / _CLAIM).touch(exist_ok=False)
    except FileExistsError:
        raise SystemExit(0) from None
    except OSError:
        return
