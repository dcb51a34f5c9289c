"""Jinja filters that carry an answer into a file as data, whatever characters it holds.

``toml`` and ``yaml`` give the body of a double-quoted string: the quotes stay in the
template, so that the unrendered file is valid too and every tool can read it.

    description = "{{ cookiecutter.description | toml }}"

``markdown`` gives a run of plain text, and needs no quotes.
"""

from __future__ import annotations

import re

from jinja2 import Environment
from jinja2.ext import Extension

_ESCAPES = {
    "\\": "\\\\",
    '"': '\\"',
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}
_INLINE = re.compile(r"([\\`*_{}\[\]<>#|~&$])")
_AT_THE_START = re.compile(r"^(\d*)([-+=.)])")


def quote(value: object) -> str:
    r"""The body of a double-quoted string, for TOML and YAML alike.

    Both read ``\\``, ``\"`` and ``\UXXXXXXXX``, and both take other characters as they
    are; JSON's surrogate pairs, which ``tojson`` would give for an emoji, are wrong in TOML.
    """
    return "".join(
        _ESCAPES.get(char) or (char if char.isprintable() else f"\\U{ord(char):08X}")
        for char in str(value)
    )


def markdown(value: object) -> str:
    """Text that Markdown shows as it is: one line, characters of syntax escaped.

    List markers and underlines only mean something at the start of a line, so that
    elsewhere hyphens and full stops stay readable in the source.
    """
    text = _INLINE.sub(r"\\\1", " ".join(str(value).split()))
    return _AT_THE_START.sub(r"\1\\\2", text)


class Quoting(Extension):
    """Adds the filters ``toml``, ``yaml`` and ``markdown``."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters.update(toml=quote, yaml=quote, markdown=markdown)
