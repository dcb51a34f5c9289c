"""``/docs``: Swagger UI over ``/openapi.json``, from a package and not from the internet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import flask

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API documentation</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true});
"""
# The page's own files only. Swagger UI writes style attributes and inlines its icons.
_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
)
_ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")


def blueprint() -> flask.Blueprint:
    """The page and its assets."""
    docs = flask.Blueprint("docs", __name__)
    folder = _assets()

    @docs.get("/docs")
    def page() -> flask.Response:
        answer = flask.Response(_PAGE, mimetype="text/html")
        answer.headers["Content-Security-Policy"] = _POLICY
        return answer

    @docs.get("/docs/start.js")
    def start() -> flask.Response:
        return flask.Response(_START, mimetype="text/javascript")

    @docs.get(f"/docs/<any({', '.join(map(repr, _ASSETS))}):name>")
    def asset(name: str) -> flask.Response:
        answer = flask.send_from_directory(folder, name)
        answer.headers["Cache-Control"] = "public, max-age=3600"
        return answer

    return docs


def _assets() -> Path:
    """Where flask-swagger-ui keeps Swagger UI; importing it would register nothing we need."""
    spec = find_spec("flask_swagger_ui")
    if spec is None or spec.origin is None:
        msg = "flask-swagger-ui is not installed: install requirements/runtime.txt."
        raise RuntimeError(msg)
    return Path(spec.origin).parent / "dist"
