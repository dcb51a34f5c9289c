"""Cache keys as text, for other processes: the same key gives the same text everywhere.

Only plain values travel (None, bool, int, float, str, bytes, UUID, date, datetime, Decimal, and
tuples and frozensets of these), as JSON with a tag per value. It is no pickle: reading a text that
somebody else wrote can give a wrong key, never run code.

    decode_key(encode_key((7, "de"))) == (7, "de")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

_ENCODERS: dict[type, tuple[str, Callable[[Any], object]]] = {
    int: ("i", str),  # as text: JSON readers elsewhere may round a large number
    float: ("f", float.hex),
    str: ("s", str),
    bytes: ("b", bytes.hex),
    UUID: ("u", str),
    Decimal: ("n", str),
    date: ("d", date.isoformat),
    datetime: ("t", datetime.isoformat),
}
_DECODERS: dict[str, Callable[[str], Hashable]] = {
    "i": int,
    "f": float.fromhex,
    "s": str,
    "b": bytes.fromhex,
    "u": UUID,
    "n": Decimal,
    "d": date.fromisoformat,
    "t": datetime.fromisoformat,
}


def encode_key(key: Hashable) -> str:
    """Text for a key; `TypeError` names the part that cannot travel."""
    return json.dumps(_encode(key), separators=(",", ":"))


def decode_key(text: str) -> Hashable:
    """The key that `encode_key` made the text from; `ValueError` if it did not."""
    try:
        return _decode(json.loads(text))
    except (KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"not a text of encode_key: {text[:80]!r}") from error


def _encode(key: object) -> object:
    if key is None or isinstance(key, bool):
        return key
    if type(key) is tuple:
        return ["(", *map(_encode, key)]
    if type(key) is frozenset:
        # Sorted by text: a set's order differs from process to process.
        return ["{", *sorted(map(_encode, key), key=json.dumps)]
    found = _ENCODERS.get(type(key))
    if found is None:
        raise TypeError(
            f"a key part of type {type(key).__qualname__} cannot be named in another process: "
            "use plain values, or give @cached a key= function that returns some"
        )
    tag, encode = found
    return [tag, encode(key)]


def _decode(value: Any) -> Hashable:
    if value is None or isinstance(value, bool):
        return value
    tag, *rest = value
    if tag == "(":
        return tuple(map(_decode, rest))
    if tag == "{":
        return frozenset(map(_decode, rest))
    (text,) = rest
    return _DECODERS[tag](text)
