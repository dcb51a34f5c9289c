"""Writes a ``Profile`` as Go's ``profile.proto``, gzipped, without a dependency.

The protobuf runtime costs 62 ms of import and is a frequent cause of version conflicts, for
a format that needs two wire types. Field numbers are those of
github.com/google/pprof/proto/profile.proto; the tests read the result with the real runtime.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable

from threadkit.profiling.profile import Frame, Profile, ValueType

_MASK = (1 << 64) - 1


def encode(profile: Profile) -> bytes:
    """The profile as ``go tool pprof`` reads it."""
    return gzip.compress(_Writer().write(profile), compresslevel=3, mtime=0)


def _varint(value: int) -> bytes:
    value &= _MASK  # negative numbers are int64, ten bytes
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _packed(field: int, values: Iterable[int]) -> bytes:
    return _message(field, b"".join(map(_varint, values)))


class _Writer:
    """The tables of one profile: strings, functions, locations."""

    def __init__(self) -> None:
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str, int], int] = {}
        self._locations: dict[Frame, int] = {}

    def write(self, profile: Profile) -> bytes:
        """All of it. The tables come last: only then is known what is in them."""
        parts = [_message(1, self._type(each)) for each in profile.types]
        for (stack, tags), values in profile.samples.items():
            body = _packed(1, [self._location(frame) for frame in stack]) + _packed(2, values)
            for key, value in tags:
                said = (
                    _number(3, value) if isinstance(value, int) else _number(2, self._string(value))
                )
                body += _message(3, _number(1, self._string(key)) + said)
            parts.append(_message(2, body))
        # One mapping that has everything, or readers look for a binary to symbolise with.
        mapping = _number(1, 1) + _number(5, self._string("python"))
        parts.append(_message(3, mapping + b"".join(_number(n, 1) for n in (7, 8, 9))))
        for frame, identity in self._locations.items():
            line = _number(1, self._function(frame)) + _number(2, frame.line)
            # Who takes one profile from the next (Alloy) knows places by their addresses alone.
            body = _number(1, identity) + _number(2, 1) + _number(3, frame.address)
            parts.append(_message(4, body + _message(4, line)))
        for (name, file, first), identity in self._functions.items():
            body = _number(1, identity) + _number(2, self._string(name))
            body += _number(3, self._string(name)) + _number(4, self._string(file))
            parts.append(_message(5, body + _number(5, first)))
        parts += [_number(9, profile.time_ns), _number(10, profile.duration_ns)]
        if profile.period_type is not None:
            parts.append(_message(11, self._type(profile.period_type)))
        parts.append(_number(12, profile.period))
        if profile.comments:
            parts.append(_packed(13, [self._string(text) for text in profile.comments]))
        parts.append(_number(14, self._string(profile.default_type)))
        parts += [_message(6, text.encode("utf-8", "replace")) for text in self._strings]
        return b"".join(parts)

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def _type(self, value: ValueType) -> bytes:
        return _number(1, self._string(value.type)) + _number(2, self._string(value.unit))

    def _location(self, frame: Frame) -> int:
        return self._locations.setdefault(frame, len(self._locations) + 1)

    def _function(self, frame: Frame) -> int:
        key = (frame.name, frame.file, frame.first)
        return self._functions.setdefault(key, len(self._functions) + 1)
