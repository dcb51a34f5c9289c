"""The private folder in which the workers of one master keep their numbers.

prometheus_client looks at ``PROMETHEUS_MULTIPROC_DIR`` when it is imported, so the folder
is claimed while gunicorn reads its configuration, before anything imports the client.
A folder that another master uses would mix two services' numbers: the variable is only
trusted where the mark beside it says that this very process has set it.
"""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_MARK: Final = "THREADKIT_METRICS_MASTER"


def claim() -> Path:
    """This master's folder, made on the first call; a SIGHUP finds the same one.

    An inherited variable (from a shell, or from the master that USR2 replaces) has no mark
    of this process and is replaced.
    """
    pid = str(os.getpid())
    if os.environ.get(_MARK) == pid:
        return Path(os.environ[VARIABLE])
    try:
        folder = tempfile.mkdtemp(prefix=f"threadkit-metrics-{pid}-")
    except OSError as error:
        msg = f"There is no folder for the workers' metrics: {error}. Set TMPDIR to a writable one."
        raise SystemExit(msg) from None
    os.environ.update({VARIABLE: folder, _MARK: pid})
    # Also where on_exit is not reached: --check-config, a port in use, a failed boot.
    atexit.register(release)
    return Path(folder)


def release() -> None:
    """Remove the folder, if this process is the one that claimed it; workers pass through."""
    if os.environ.get(_MARK) == str(os.getpid()):
        shutil.rmtree(os.environ[VARIABLE], ignore_errors=True)
        del os.environ[_MARK], os.environ[VARIABLE]


def worker_died(pid: int) -> None:
    """Drop the numbers that only a living worker has, such as its requests in flight."""
    if os.environ.get(_MARK) == str(os.getpid()):
        # Imported only now, with the variable set and for the master a first time.
        multiprocess = importlib.import_module("prometheus_client.multiprocess")
        multiprocess.mark_process_dead(pid)
