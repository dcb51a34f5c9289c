"""Which route a request will take, asked before Flask does: is it one to refuse first?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask
from werkzeug.exceptions import HTTPException

from threadkit.limits import is_sheddable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Shedding:
    """Looks routes up as Flask will. Thread-safe; costs nothing where no route is marked."""

    def __init__(self, app: flask.Flask) -> None:
        self._app = app
        self._marked: frozenset[str] | None = None

    def __call__(self, environ: WSGIEnvironment) -> bool:
        """Whether this request's route is ``@sheddable``."""
        if self._marked is None:  # routes are added until the first request
            views = self._app.view_functions.items()
            self._marked = frozenset(name for name, view in views if is_sheddable(view))
        if not self._marked:
            return False
        try:
            endpoint, _ = self._app.url_map.bind_to_environ(environ).match()
        except HTTPException:
            return False
        return endpoint in self._marked
