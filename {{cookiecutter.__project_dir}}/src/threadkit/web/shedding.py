"""Which route a request will take, asked before Flask does: is it one to refuse first?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

import flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter

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
        return self._is_marked(lambda urls: urls.bind_to_environ(environ))

    def by_path(self, method: str, target: str) -> bool:
        """The same, where there is no more of a request than that yet.

        Where routes depend on the host as well, none is found; they are asked for again later.
        """
        path = unquote(target, errors="replace")
        return self._is_marked(lambda urls: urls.bind("", path_info=path, default_method=method))

    def _is_marked(self, bind: Callable[[Map], MapAdapter]) -> bool:
        if self._marked is None:  # routes are added until the first request
            views = self._app.view_functions.items()
            self._marked = frozenset(name for name, view in views if is_sheddable(view))
        if not self._marked:
            return False
        try:
            endpoint, _ = bind(self._app.url_map).match()
        except HTTPException:
            return False
        return endpoint in self._marked
