"""The command line of this process, without its secrets."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Final

_NAME: Final = r"[\w.-]*(?:token|secret|passw|pwd|api[_-]?key|credential|dsn)[\w.-]*"
_PAIR: Final = re.compile(rf"(?i)\b({_NAME})(\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s&;,]+)")
_FLAG: Final = re.compile(rf"(?i)--?{_NAME}")
_LOGIN: Final = re.compile(r"(://[^/\s:@]*:)[^\s/]*@")
HIDDEN: Final = "[redacted]"


def redacted(arguments: Sequence[str] | None = None) -> list[str]:
    """The arguments (those of this process) with passwords and tokens hidden."""
    shown: list[str] = []
    secret_next = False
    for argument in sys.orig_argv if arguments is None else arguments:
        if secret_next and not argument.startswith("-"):
            shown.append(HIDDEN)
            secret_next = False
            continue
        secret_next = _FLAG.fullmatch(argument) is not None
        text = _LOGIN.sub(rf"\g<1>{HIDDEN}@", argument)
        shown.append(_PAIR.sub(rf"\g<1>\g<2>{HIDDEN}", text))
    return shown
