"""The page at ``/debug/pprof/``: every profile, with links that ask the whole service."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from typing import Final

from werkzeug.wrappers import Response

from threadkit.profiling.kinds import Kind

_STYLE: Final = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;"
    "margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}"
    "td{padding:.4rem .6rem;border-top:1px solid #8884;vertical-align:top}"
    "td:last-child{white-space:nowrap}code{white-space:nowrap}small{opacity:.75}"
    "@media(max-width:40rem){tr{display:block;border-top:1px solid #8884;padding:.5rem 0}"
    "td{display:block;border:0;padding:.1rem 0}td:last-child a{margin-right:1rem}}"
)


def page(kinds: Mapping[str, Kind], pids: Sequence[int]) -> Response:
    """Links go to all workers; the workers are listed for those who want one of them."""
    rows = "".join(_row(name, kind) for name, kind in sorted(kinds.items()))
    workers = ", ".join(
        f'<a href="goroutine?debug=2&amp;pid={pid}">{pid}</a>'
        f"{' (answers this page)' if pid == os.getpid() else ''}"
        for pid in pids
    )
    body = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>/debug/pprof/</title><style>{_STYLE}</style><h1>/debug/pprof/</h1>"
        f"<p>Threads of one worker: {workers}. Links below ask all workers; "
        "leave <code>pid=all</code> out for the one that answers, or name one with "
        f"<code>pid=N</code>.</p><table>{rows}{_TRACE}</table>"
        "<p><small>Parameters: <code>seconds</code> (at most 60), <code>hz</code>, "
        "<code>depth</code>, <code>debug=1|2</code>, "
        "<code>format=top|html|collapsed|speedscope</code>. "
        '<a href="cmdline">cmdline</a> <a href="symbol">symbol</a></small></p></html>\n'
    )
    response = Response(body, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    )
    return response


_TRACE: Final = (
    '<tr><td><a href="trace?seconds=1&amp;pid=all"><b>trace</b></a>'
    "<td>What threads and requests do, over time. Not in Go's format: Chrome trace events, for "
    "ui.perfetto.dev or speedscope.<td>"
)


def _row(name: str, kind: Kind) -> str:
    ask = f"?seconds={min(kind.seconds, 10):g}&amp;pid=all" if kind.seconds else "?pid=all"
    graph = f'<a href="{name}{ask}&amp;format=html">flame graph</a>'
    top = f'<a href="{name}{ask}&amp;format=top">top</a>'
    text = f'<a href="{name}?debug=1&amp;pid=all">text</a>'
    return (
        f'<tr><td><a href="{name}{ask}"><b>{name}</b></a><td>{html.escape(kind.description)}'
        f"<td>{graph} {top} {text}"
    )
