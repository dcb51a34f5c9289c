"""Reads ``profile.proto`` back: what other workers answer, to be merged.

Takes whatever a conforming writer may send: packed or single numbers, fields in any order,
unknown ones skipped, gzipped or plain.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any

from threadkit.profiling.profile import Frame, Profile, ValueType

LARGEST = 256 * 1024 * 1024
"""Bytes, unpacked, beyond which an answer is refused."""

_Fields = list[tuple[int, Any]]


class NotAProfileError(ValueError):
    """The bytes are no profile; the text says where they stop being one."""


def decode(data: bytes) -> Profile:
    """The profile in ``data``; ``NotAProfileError`` where there is none."""
    try:
        return _profile(list(_fields(_unpacked(data))))
    except (IndexError, KeyError, UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        msg = f"not a profile: {type(error).__name__}: {error}"
        raise NotAProfileError(msg) from error


def _unpacked(data: bytes) -> bytes:
    if data[:2] != b"\x1f\x8b":
        return data
    unpacker = zlib.decompressobj(wbits=31)
    plain = unpacker.decompress(data, LARGEST)
    if unpacker.unconsumed_tail:
        msg = f"not a profile: more than {LARGEST} bytes"
        raise NotAProfileError(msg)
    return plain if unpacker.eof else gzip.decompress(data)  # which says what is missing


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
        shift += 7
        if shift > 63:
            msg = f"not a profile: a number at byte {at} has no end"
            raise NotAProfileError(msg)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield field, value
        elif wire in (1, 2, 5):
            size = {1: 8, 5: 4}.get(wire, 0)
            if wire == 2:
                size, at = _varint(data, at)
            if at + size > len(data):
                msg = f"not a profile: field {field} ends beyond the last byte"
                raise NotAProfileError(msg)
            if wire == 2:
                yield field, data[at : at + size]
            at += size
        else:
            msg = f"not a profile: wire type {wire} at byte {at}"
            raise NotAProfileError(msg)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _numbers(fields: _Fields, wanted: int) -> list[int]:
    """A repeated number, packed or not."""
    found: list[int] = []
    for field, value in fields:
        if field != wanted:
            continue
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(_signed(number))
    return found


def _one(fields: _Fields, wanted: int) -> int:
    return next(reversed(_numbers(fields, wanted)), 0)


def _bodies(fields: _Fields, wanted: int) -> list[_Fields]:
    return [list(_fields(v)) for f, v in fields if f == wanted and isinstance(v, bytes)]


def _profile(fields: _Fields) -> Profile:
    strings = [v.decode() for f, v in fields if f == 6 and isinstance(v, bytes)]
    if not strings or strings[0]:
        msg = "not a profile: its string table does not begin with an empty string"
        raise NotAProfileError(msg)

    def kind(body: _Fields) -> ValueType:
        return ValueType(strings[_one(body, 1)], strings[_one(body, 2)])

    functions = {
        _one(b, 1): (strings[_one(b, 2)], strings[_one(b, 4)], _one(b, 5))
        for b in _bodies(fields, 5)
    }
    locations: dict[int, tuple[Frame, ...]] = {}
    for body in _bodies(fields, 4):
        frames = []
        for line in _bodies(body, 4):
            name, file, first = functions[_one(line, 1)]
            frames.append(Frame(name, file, _one(line, 2), first))
        locations[_one(body, 1)] = tuple(frames)
    profile = Profile(
        tuple(kind(b) for b in _bodies(fields, 1)),
        comments=[strings[n] for n in _numbers(fields, 13)],
        period_type=next((kind(b) for b in _bodies(fields, 11)), None),
        period=_one(fields, 12),
        time_ns=_one(fields, 9),
        duration_ns=_one(fields, 10),
        default_type=strings[_one(fields, 14)],
    )
    for body in _bodies(fields, 2):
        stack = tuple(frame for n in _numbers(body, 1) for frame in locations[n])
        tags: list[tuple[str, str | int]] = []
        for each in _bodies(body, 3):
            text = _one(each, 2)
            tags.append((strings[_one(each, 1)], strings[text] if text else _one(each, 3)))
        profile.add(stack, _numbers(body, 2), tuple(sorted(tags)))
    return profile
