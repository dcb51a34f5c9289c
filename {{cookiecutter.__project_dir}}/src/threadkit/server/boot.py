"""A start that fails says so once, and only where nothing serves.

gunicorn halts as soon as it sees a worker that could not load its application. While it
waits for the others it sees the next such worker, halts from within halting, and ends with
a traceback about itself. So only the first worker that fails reports it by its exit code,
and it alone logs the error, from the first frame that is not gunicorn's or the import's.

A worker that fails while others serve (a reload to code that does not start, a replacement
that cannot reach what it needs) must not end them: it reports nothing and is tried again.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import gunicorn  # type: ignore[import-untyped]
import structlog

from threadkit.server import gunicorn_names, metrics_folder, presence

log = structlog.get_logger("threadkit.server")

_CLAIM = "boot-failed"


def settle(exit_code: int) -> None:
    """As the last act of a worker: leave as if all were well, if that is for others to say."""
    if exit_code not in gunicorn_names.BOOT_FAILURES:
        return
    if presence.others_serve(os.getpid()):
        log.error("this worker could not start; others serve")
        raise SystemExit(0)
    if not _is_first():
        raise SystemExit(0)


def forget_failures() -> None:
    """In the master, before a reload: what goes wrong now is worth to be said once more."""
    folder = os.environ.get(metrics_folder.VARIABLE)
    if folder is not None:
        (Path(folder) / _CLAIM).unlink(missing_ok=True)


@contextmanager
def told_once() -> Iterator[None]:
    """While the application is loaded: log what goes wrong, unless another worker has."""
    try:
        yield
    except gunicorn_names.AppImportError:
        raise  # a sentence by itself, and gunicorn prints it
    except Exception as error:
        if _is_first():
            shown = error.with_traceback(_own_part(error.__traceback__))
            log.error("the application cannot be loaded", exc_info=shown)
            print(error, file=sys.stderr, flush=True)
        raise SystemExit(gunicorn_names.BOOT_FAILURE) from None


def _is_first() -> bool:
    """Whether this worker is the one of its master's that reports."""
    folder = os.environ.get(metrics_folder.VARIABLE)
    if folder is None:
        return True
    claim = Path(folder) / _CLAIM
    try:
        claim.touch(exist_ok=False)
        claim.write_text(str(os.getpid()))
    except FileExistsError:
        return claim.read_text() == str(os.getpid())
    except OSError:
        return True
    return True


def _own_part(traceback: TracebackType | None) -> TracebackType | None:
    libraries = (gunicorn.__file__, importlib.__file__, __file__)
    passed_through = ("<frozen ", *(str(Path(file).parent) for file in libraries))
    here = traceback
    while here is not None:
        if not here.tb_frame.f_code.co_filename.startswith(passed_through):
            return here
        here = here.tb_next
    return None  # the very file that was asked for: the error itself names it
