"""The admin address: health, metrics and, as rooms add routes, whatever an operator needs.

It is served by a thread of each worker's own, outside gunicorn's pool, so that it answers
when every request thread is stuck. Go services do the same with a second ``http.Server``.

    app = AdminApp(runtime, {**ROUTES, **CONSOLE})
    runtime.add("admin", AdminServer(app))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from threadkit.admin.app import ROUTES, AdminApp, Route, problem
from threadkit.admin.console import cancel, console
from threadkit.admin.server import AdminServer
from threadkit.admin.vars import debug_vars

__all__ = ["CONSOLE", "ROUTES", "AdminApp", "AdminServer", "Route", "problem"]

CONSOLE: Final[Mapping[str, Route]] = {
    "/debug/": console,
    "/debug/vars": debug_vars,
    "POST /debug/requests/<id>/cancel": cancel,
}
"""The live console, its numbers, and what it can do."""
