"""Pages in one piece: their parts are files beside this module, their policy follows from them.

A page names its style and its script by place, and gets a Content-Security-Policy that allows
exactly these two, by hash: nothing inline that somebody smuggled in runs, and nothing is fetched
from elsewhere. There is no build step.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import NamedTuple

from werkzeug.wrappers import Response


class Page(NamedTuple):
    """A whole document, and the policy under which a browser shall show it."""

    body: bytes
    policy: str

    def response(self) -> Response:
        """The page as an answer."""
        response = Response(self.body, mimetype="text/html")
        response.headers["Content-Security-Policy"] = self.policy
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


@functools.cache
def page(folder: str, *scripts: str) -> Page:
    """``folder``'s page.html, with its style.css and the named scripts put into it."""
    files = resources.files("threadkit.admin") / folder
    style = (files / "style.css").read_text("utf-8")
    script = "\n".join((files / name).read_text("utf-8") for name in scripts)
    body = (files / "page.html").read_text("utf-8")
    body = body.replace("{{style}}", style).replace("{{script}}", script)
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return Page(body.encode(), policy)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
