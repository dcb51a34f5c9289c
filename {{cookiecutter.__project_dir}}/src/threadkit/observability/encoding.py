"""How a log record becomes bytes that no value in it can break out of.

A record is one line in json and one line, plus prefixed lines for a traceback, on the
console. Values come from clients (paths, headers, names) and from exceptions, so each is
hostile until escaped: no newline may start a forged record, no escape sequence may reach
a terminal, and nothing that cannot be encoded may cost the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

Record = Mapping[str, Any]

# C0, DEL, C1, the line and paragraph separators, and the marks that reorder text (with
# which a line could read differently from what it says), and lone surrogates.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# The same characters as UTF-8, where JSON lets them stand unescaped. Readers that split
# text at every Unicode line boundary would otherwise see two records.
_UNSAFE_UTF8: Final = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]"
)

_DEL: Final = b"\x7f"

_TRACEBACK_PREFIX: Final = "    | "
_DEEPEST: Final = 6
_LONGEST_REPR: Final = 2_000
_COLOURS: Final = {"debug": 2, "info": 32, "warning": 33, "error": 31, "critical": 35}


def to_json(record: Record) -> bytes:
    """``record`` as one line of JSON; what JSON cannot express appears as its repr."""
    try:
        line = orjson.dumps(record, default=safe_repr, option=_JSON_OPTIONS)
    except (TypeError, ValueError, RecursionError):
        # Lone surrogates, integers beyond 64 bits, cycles: rare, so only now is it worth
        # walking the record. The result holds nothing but what orjson can encode.
        line = orjson.dumps(_plain(record, _DEEPEST), option=_JSON_OPTIONS)
    if line.isascii() and _DEL not in line:
        return line  # which is most of them, and the search costs more than all of the rest
    return _UNSAFE_UTF8.sub(_escape_utf8, line)


_JSON_OPTIONS: Final = (
    orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
)


def to_console(record: Record, *, colour: bool = False) -> bytes:
    """``record`` for people: time, level, event, fields; a traceback below it, indented."""
    fields = dict(record)
    time = str(fields.pop("timestamp", ""))[11:23]
    level = str(fields.pop("level", ""))
    event = printable(fields.pop("event", ""))
    exception = fields.pop("exception", None)
    label = f"{level:<8}"
    if colour:
        label = f"\x1b[{_COLOURS.get(level, 0)}m{label}\x1b[0m"
    rest = "".join(f" {_name(key)}={_value(value)}" for key, value in fields.items())
    lines = [f"{time} {label} {event}{' ' if rest else ''}{rest}"]
    if exception is not None:
        lines += [_TRACEBACK_PREFIX + printable(line) for line in str(exception).split("\n")]
    return ("\n".join(lines) + "\n").encode()


def printable(value: object) -> str:
    """``value`` as text without a character that could end a line or steer a terminal."""
    text = value if isinstance(value, str) else safe_repr(value)
    return _UNSAFE.sub(_escape, text)


def safe_repr(value: object) -> str:
    """``repr`` that cannot fail and is not endless."""
    try:
        text = repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr failed: {type(error).__name__}>"
    return text if len(text) <= _LONGEST_REPR else f"{text[:_LONGEST_REPR]}..."


def _name(key: object) -> str:
    return re.sub(r"[\s=\"]", "_", printable(key))


def _value(value: object) -> str:
    text = printable(value)
    # Quoted where it could be read as the end of this field and the start of another.
    return json.dumps(text, ensure_ascii=False) if re.search(r'[\s="]', text) or not text else text


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(
        code, f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )


def _escape_utf8(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())


def _plain(value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if depth and isinstance(value, Mapping):
        return {
            str(_plain(str(key), 0)): _plain(item, depth - 1) for key, item in list(value.items())
        }
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in list(value)]
    return _plain(safe_repr(value), 0)
