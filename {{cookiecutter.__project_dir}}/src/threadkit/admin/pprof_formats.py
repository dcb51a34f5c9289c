"""A profile as an answer, in the format that was asked for."""

from __future__ import annotations

from werkzeug.wrappers import Response

from threadkit.admin.pprof_query import Query
from threadkit.profiling.encode import encode
from threadkit.profiling.profile import Profile


def response(name: str, profile: Profile, query: Query) -> Response:
    """With Go's headers: a profile is a file to be saved under its name."""
    answer = Response(encode(profile), content_type="application/octet-stream")
    instant = name not in ("profile", "trace")
    file = f"{name}-delta" if instant and query.seconds is not None else name
    answer.headers["Content-Disposition"] = f'attachment; filename="{file}"'
    return answer
