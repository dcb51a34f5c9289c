"""Where the handlers of an application are, for profiles: code → endpoint and method."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType

import flask

from threadkit.runtime import View


def views(app: flask.Flask) -> Iterator[View]:
    """Every handler with the rule that it serves; what has no Python code is left out."""
    methods: dict[tuple[str, CodeType], set[str]] = {}
    for rule in app.url_map.iter_rules():
        code = getattr(inspect.unwrap(app.view_functions[rule.endpoint]), "__code__", None)
        if isinstance(code, CodeType):
            served = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            methods.setdefault((rule.rule, code), set()).update(served)
    for (rule_, code), served in methods.items():
        method = min(served) if len(served) == 1 else ""
        first, last = code.co_firstlineno, _last_line(code)
        yield View(code.co_filename, code.co_name, first, last, rule_, method)


def _last_line(code: CodeType) -> int:
    return max(line or code.co_firstlineno for _, _, line in code.co_lines())
