"""What an instruction calls: ``calling(code, lasti)`` is ``"recv_into"`` where a frame stands
in ``self._sock.recv_into(buffer)``.

A thread that waits is inside a C function, which has no frame of its own. The instruction at
which the Python frame stands tells whether it is in a call at all, and the source positions
of that instruction tell of what.
"""

from __future__ import annotations

import dis
import linecache
import re
from functools import lru_cache
from itertools import islice
from types import CodeType
from typing import Final

_CALLS: Final = frozenset(
    number
    for name, number in dis.opmap.items()
    if name in ("PRECALL", "BEFORE_WITH", "LOAD_SPECIAL") or name.startswith("CALL")
)
_WITHS: Final = frozenset(
    number for name, number in dis.opmap.items() if name in ("BEFORE_WITH", "LOAD_SPECIAL")
)
UNKNOWN: Final = "?"
"""It is in a call, and there is no source to say of what."""


@lru_cache(maxsize=16_384)
def calling(code: CodeType, lasti: int) -> str:
    """The name that is called; ``"with"`` for entering a context; ``""`` for no call."""
    if not 0 <= lasti < len(code.co_code):
        return ""
    operation = code.co_code[lasti]  # as compiled: specialised instructions are not shown
    if operation not in _CALLS:
        return ""
    text = _source(code, lasti)
    if not text:
        return UNKNOWN
    if operation in _WITHS:
        return "with"
    name = _before_arguments(text)
    found = re.search(r"(\w+)\s*$", name)
    if found is not None:
        return found[1]
    # From 3.14 on entering a context is an ordinary call of the context's expression.
    return "with" if not text.rstrip().endswith(")") else UNKNOWN


def _source(code: CodeType, lasti: int) -> str:
    start, end, left, right = next(islice(code.co_positions(), lasti // 2, None), (None,) * 4)
    if start is None or end is None or left is None or right is None:
        return ""
    lines = [linecache.getline(code.co_filename, number) for number in range(start, end + 1)]
    if not all(lines):
        return ""
    raw = [line.encode() for line in lines]  # columns are bytes of UTF-8
    raw[-1] = raw[-1][:right]
    raw[0] = raw[0][left:]
    return b"".join(raw).decode("utf-8", "replace")


def _before_arguments(text: str) -> str:
    """What stands before the last call's opening parenthesis."""
    text = text.rstrip()
    if not text.endswith(")"):
        return text
    depth = 0
    for index in range(len(text) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[index], 0)
        if depth == 0:
            return text[:index]
    return ""
