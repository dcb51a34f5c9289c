"""The composition root: the only place that knows all the parts."""

from __future__ import annotations

import flask

from threadkit.extension import init_app

from . import handlers
from .settings import Settings


def create_app(settings: Settings | None = None) -> flask.Flask:
    """Build the service; nothing is started until a worker or a first request needs it."""
    app = flask.Flask(__package__ or __name__, static_folder=None)
    init_app(app, settings or Settings.load())
    for blueprint in handlers.blueprints():
        app.register_blueprint(blueprint)
    return app
