"""Pictures for the documentation, made by the tests that look at the pages.

    PICTURES=docs/pictures python -m pytest tests/end_to_end/test_console.py

writes them; without the variable nothing is written. A browser's screenshots are large, so they
are packed again with a palette of at most 256 colours, which is what a page of text needs.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path


def wanted() -> bool:
    """Whether somebody asks for pictures."""
    return bool(os.environ.get("PICTURES"))


def save(name: str, png: bytes) -> None:
    """Write a screenshot as ``name``.png, where pictures are wanted."""
    if wanted():
        folder = Path(os.environ["PICTURES"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(packed(png))


def packed(png: bytes) -> bytes:
    """The same picture, with a palette: colours that differ little become the commoner one."""
    width, height, pixels = _pixels(png)
    counts = Counter(pixels)
    for bits in (8, 7, 6, 5, 4, 3, 2):  # 2 bits of each of three colours are 64
        best: dict[bytes, bytes] = {}
        for pixel, _ in counts.most_common():
            best.setdefault(_rounded(pixel, bits), pixel)
        if len(best) <= 256:
            break
    place = {pixel: index for index, pixel in enumerate(best.values())}
    index = {pixel: place[best[_rounded(pixel, bits)]] for pixel in counts}
    rows = bytearray()
    for start in range(0, width * height, width):
        rows.append(0)
        rows += bytes(index[pixel] for pixel in pixels[start : start + width])
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", b"".join(best.values())),
            _chunk(b"IDAT", zlib.compress(bytes(rows), 9)),
            _chunk(b"IEND", b""),
        ]
    )


def _rounded(pixel: bytes, bits: int) -> bytes:
    return bytes(value >> (8 - bits) for value in pixel)


def _pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    chunks = list(_chunks(png))
    header = dict(chunks)[b"IHDR"]
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    assert (depth, interlaced) == (8, 0), "a browser writes another kind of PNG than expected"
    size = {2: 3, 6: 4}[colour]
    data = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    pixels: list[bytes] = []
    above = bytearray(width * size)
    for start in range(0, len(data), width * size + 1):
        row = bytearray(data[start + 1 : start + 1 + width * size])
        _unfilter(data[start], row, above, size)
        pixels += [bytes(row[at : at + 3]) for at in range(0, len(row), size)]
        above = row
    return width, height, pixels


def _unfilter(kind: int, row: bytearray, above: bytearray, size: int) -> None:
    for at in range(len(row)):
        left = row[at - size] if at >= size else 0
        corner = above[at - size] if at >= size else 0
        guess = (0, left, above[at], (left + above[at]) // 2, 0)[kind]
        if kind == 4:
            near = left + above[at] - corner
            guess = min((left, above[at], corner), key=lambda value: abs(near - value))
        row[at] = (row[at] + guess) & 0xFF


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
