"""``/livez`` and ``/readyz``: may this process live, and should it be sent requests?"""

from __future__ import annotations

import flask

from threadkit.context import request_id
from threadkit.runtime import Runtime
from threadkit.web import problems


def blueprint(runtime: Runtime) -> flask.Blueprint:
    """The two routes; neither stands in line behind requests nor needs a trusted host."""
    health = flask.Blueprint("health", __name__)

    @health.get("/livez")
    def livez() -> flask.Response:
        return flask.jsonify(status="alive")

    @health.get("/readyz")
    def readyz() -> flask.Response:
        readiness = runtime.readiness()
        if readiness.ready:
            return flask.jsonify(readiness.document())
        problem = readiness.document()
        problem["request_id"] = request_id.get()
        return problems.response(problem, {"Retry-After": "1"})

    return health
