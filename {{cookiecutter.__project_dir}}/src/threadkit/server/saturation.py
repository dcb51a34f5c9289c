"""Whether this process already uses all of the processor that it can.

Then a further thread would only wait for the interpreter lock together with the others.
"""

from __future__ import annotations

import time
from typing import Final

_WINDOW: Final = 0.002
"""Seconds that are looked back on; shorter ones say more about the clock."""
_SHARE: Final = 0.6
"""Of one core: other processes on it take the rest."""


class Saturation:
    """One thread asks it; a call costs a microsecond."""

    def __init__(self) -> None:
        self._at, self._cpu = time.monotonic(), time.process_time()
        self._share = 0.0

    def __call__(self) -> bool:
        """True where more threads would not get more done."""
        now = time.monotonic()
        if now - self._at >= _WINDOW:
            cpu = time.process_time()
            self._share = (cpu - self._cpu) / (now - self._at)
            self._at, self._cpu = now, cpu
        return self._share > _SHARE
