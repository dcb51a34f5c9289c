"""A profile as a flame graph: one page that needs nothing else, not even a network.

Zoom (click, Escape), search, choice of the type, inverted (callers below those whom they call).
A function is one bar, whichever of its lines it was seen at; the bar's title has the lines. The
page's style and script are files beside this one, put into it; its policy allows exactly those,
by their hashes, and nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from threadkit.profiling.formats import busy, default_column
from threadkit.profiling.profile import Frame, Profile

_HERE: Final = Path(__file__).parent


class Page(NamedTuple):
    """A document and the policy to be sent with it."""

    body: str
    policy: str


def page(profile: Profile, name: str) -> Page:
    """The flame graph of ``profile``."""
    profile = busy(profile)
    frames: dict[Frame, int] = {}
    stacks = [
        [[frames.setdefault(frame, len(frames)) for frame in reversed(stack)], values]
        for (stack, _), values in profile.samples.items()
    ]
    shown = [[frame.name, frame.file, frame.line] for frame in frames]
    data = {"types": profile.types, "column": default_column(profile)}
    # Within a script element nothing but "<" can end it; JSON lets us write it so.
    text = json.dumps({**data, "frames": shown, "stacks": stacks}).replace("<", "\\u003c")
    style, script = _read("flame.css"), _read("flame.js")
    title = html.escape(name)
    notes = html.escape("; ".join(profile.comments))
    body = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head><body><header><h1>{title}</h1>"
        "<select id=type aria-label=Type></select>"
        "<input id=search type=search placeholder=Search aria-label=Search>"
        "<button id=invert aria-pressed=false>Invert</button><button id=reset>Reset</button>"
        f"<span id=about></span></header><p id=notes>{notes}</p><main id=graph></main>"
        f'<script type="application/json" id=data>{text}</script>'
        f"<script>{script}</script></body></html>\n"
    )
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}"
    return Page(body, f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


@cache
def _read(name: str) -> str:
    return (_HERE / name).read_text()


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
