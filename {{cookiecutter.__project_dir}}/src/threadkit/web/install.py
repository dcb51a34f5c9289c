"""Everything that the web room adds to a Flask application, in order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import metadata
from typing import Any

import flask
from flask.globals import request_ctx
from werkzeug.middleware.proxy_fix import ProxyFix

from threadkit.limits import time_limit
from threadkit.runtime import Runtime
from threadkit.settings import Settings
from threadkit.web import docs, handlers, health, openapi, problems
from threadkit.web.body import Request
from threadkit.web.headers import check_encoding, check_host
from threadkit.web.middleware import EXCHANGE, RequestMiddleware
from threadkit.web.routing import IdConverter


def install(app: flask.Flask, runtime: Runtime) -> None:
    """How requests are read, checks, errors, health, documentation, the layers outside Flask."""
    settings = runtime.settings
    app.request_class = Request
    app.url_map.converters["int"] = IdConverter
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.after_request(_leave_scopes)
    app.before_request(_beginning(app, settings))
    app.register_error_handler(Exception, problems.answer)
    app.register_blueprint(health.blueprint(runtime))
    app.register_blueprint(docs.blueprint())
    _serve_openapi(app)
    runtime.views = functools.partial(handlers.views, app)
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops
        )
    app.wsgi_app = RequestMiddleware(app.wsgi_app, runtime)  # type: ignore[method-assign]


def _beginning(app: flask.Flask, settings: Settings) -> Callable[[], None]:
    # One function for all three: Flask asks of each at every request what kind it is.
    def begin() -> None:
        # Looked up once: each access of flask.request goes through a proxy.
        request: flask.Request = request_ctx.request
        _take_route(app, settings, request)
        check_host(settings, request)
        check_encoding(request)

    return begin


def _take_route(app: flask.Flask, settings: Settings, request: flask.Request) -> None:
    if request.url_rule is None or EXCHANGE not in request.environ:
        return
    view = app.view_functions[request.url_rule.endpoint]
    seconds = time_limit(view, usual=settings.request_timeout, most=settings.max_request_timeout)
    request.environ[EXCHANGE].take_route(request.url_rule.rule, seconds)


def _leave_scopes(response: flask.Response) -> flask.Response:
    # Flask runs these in the reverse order of registration: this one, the first, comes last.
    if not response.is_streamed and (exchange := flask.request.environ.get(EXCHANGE)):
        exchange.leave_scopes()
    return response


def _serve_openapi(app: flask.Flask) -> None:
    @functools.cache
    def document() -> dict[str, Any]:
        return openapi.build(app, title=_title(app), version=_version(app), description="")

    @app.get("/openapi.json")
    def openapi_json() -> flask.Response:
        return flask.jsonify(document())


def _version(app: flask.Flask) -> str:
    distributions = metadata.packages_distributions().get(app.name.partition(".")[0], [])
    return metadata.version(distributions[0]) if distributions else "0"


def _title(app: flask.Flask) -> str:
    return app.name.partition(".")[0].replace("_", " ").capitalize()
