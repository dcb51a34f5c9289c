"""A profile as an answer, in the format that was asked for."""

from __future__ import annotations

from werkzeug.wrappers import Response

from threadkit.admin.pprof_query import Query
from threadkit.profiling import cpu, flame, formats, top
from threadkit.profiling.encode import encode
from threadkit.profiling.profile import Profile


def response(name: str, profile: Profile, query: Query) -> Response:
    """With Go's headers where it is Go's format: a file to be saved under its name."""
    answer = _FORMATS[query.format](name, profile, query)
    if engine := cpu.engine(profile):
        answer.headers["X-Pprof-Engine"] = engine
    return answer


def _proto(name: str, profile: Profile, query: Query) -> Response:
    delta = name != "profile" and query.seconds is not None
    return _file(encode(profile), f"{name}-delta" if delta else name, "application/octet-stream")


def _html(name: str, profile: Profile, query: Query) -> Response:
    page = flame.page(profile, name)
    answer = Response(page.body, content_type="text/html; charset=utf-8")
    answer.headers["Content-Security-Policy"] = page.policy
    return answer


def _collapsed(name: str, profile: Profile, query: Query) -> Response:
    return Response(formats.collapsed(profile), content_type="text/plain; charset=utf-8")


def _top(name: str, profile: Profile, query: Query) -> Response:
    return Response(top.top(profile, name), content_type="text/plain; charset=utf-8")


def _speedscope(name: str, profile: Profile, query: Query) -> Response:
    body = formats.speedscope(profile, name)
    return _file(body, f"{name}.speedscope.json", "application/json")


def _file(body: bytes, name: str, kind: str) -> Response:
    answer = Response(body, content_type=kind)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


_FORMATS = {
    "proto": _proto,
    "top": _top,
    "html": _html,
    "collapsed": _collapsed,
    "speedscope": _speedscope,
}
