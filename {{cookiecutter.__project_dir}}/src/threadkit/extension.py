"""Assembles the kit around a Flask application, in one readable order."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import flask

from threadkit import runtime as runtimes
from threadkit import web
from threadkit.admin import CONSOLE, ROUTES, AdminApp, AdminServer, pprof
from threadkit.clients.redis_tier import RedisTier
from threadkit.concurrency import register_context_variable
from threadkit.context import log_context, request_id
from threadkit.database import Database
from threadkit.observability import logs
from threadkit.observability.database_metrics import DatabaseMetrics
from threadkit.observability.garbage import Garbage
from threadkit.observability.pulse import Pulse
from threadkit.observability.tracing import Tracing, context_variables
from threadkit.peers import Peers
from threadkit.runtime import Runtime
from threadkit.server.admission import Admission
from threadkit.server.capacity import Capacity
from threadkit.server.disconnect import DisconnectWatcher
from threadkit.server.watchdog import Watchdog
from threadkit.settings import Settings
from threadkit.tasks import Tasks


def init_app(app: flask.Flask, settings: Settings) -> Runtime:
    """Give ``app`` the kit. Call it before routes are added: it says how paths are read.

    Nothing is started here: resources start after the fork, or with the first request.
    """
    logs.configure(settings)
    runtime = Runtime(settings, service=app.name.partition(".")[0])
    runtimes.install(runtime)
    app.extensions["threadkit"] = runtime

    # First in, last out: the admin address answers while everything else closes.
    routes = {**ROUTES, **CONSOLE, **pprof.ROUTES}
    runtime.add("admin", AdminServer(AdminApp(runtime, routes)))

    pulse, garbage = Pulse(), Garbage()
    runtime.add_stats("pulse", pulse.stats)
    runtime.add("garbage", garbage)
    runtime.add_stats("garbage", garbage.stats)

    watchdog = Watchdog(runtime)
    runtime.add("watchdog", watchdog)
    runtime.add_stats("watchdog", watchdog.stats)

    runtime.add("peers", Peers())

    database = Database(settings, service=app.name)
    runtime.add("database", database)
    runtime.add_check("database", database.fault)
    runtime.add_stats("database", database.stats)
    runtime.at_request_end(database.request_ended)
    published = DatabaseMetrics()
    pulse.each_second(lambda: published.publish(database.totals()))
    runtime.add("capacity", Capacity(settings, database))

    if settings.redis_url:
        runtime.add("redis", RedisTier(settings, service=app.name))

    tasks = Tasks(settings)
    runtime.add("tasks", tasks)
    runtime.add_stats("tasks", tasks.stats)
    variables: tuple[ContextVar[Any], ...] = (request_id, log_context, *context_variables())
    for variable in variables:
        register_context_variable(variable)

    shedding = web.Shedding(app)
    runtime.set_shedding(shedding.by_path)
    admission = Admission(
        app.wsgi_app,
        settings,
        is_sheddable=shedding,
        line_fill=runtime.line_fill,
    )
    runtime.add("admission", admission)
    runtime.add_stats("admission", admission.stats)
    pulse.each_second(admission.publish)
    app.wsgi_app = admission  # type: ignore[method-assign]

    # Around admission: a client that leaves gives up its place in the line, too.
    disconnects = DisconnectWatcher()
    runtime.add("disconnects", disconnects)
    runtime.add_stats("disconnects", disconnects.stats)
    app.wsgi_app = disconnects.wrap(app.wsgi_app)  # type: ignore[assignment, method-assign]

    tracing = Tracing.from_environment(app.name)
    if tracing is not None:
        runtime.add("tracing", tracing)
        app.wsgi_app = tracing.wrap(app.wsgi_app)  # type: ignore[assignment, method-assign]

    # Last in, first out: what it calls each second has been started, and is not closed yet.
    runtime.add("pulse", pulse)

    web.install(app, runtime)
    return runtime
