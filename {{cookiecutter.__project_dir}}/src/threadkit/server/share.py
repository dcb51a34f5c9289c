"""A burst of new connections is for all workers, though one of them wakes up first.

The workers accept on the same listeners. Who wakes up first could take every connection of a
burst within a millisecond, before another worker has got a processor to run on, and clients
that keep their connections would then stay with it: one core busy, the other idle. So a worker
takes a few and then leaves the next ones to the others for a moment.

One whose places are all taken leaves every connection to the others first: at four fifths of
what all can do, one worker got too much now and then, and refused what another had room for.

    share = Share()
    if share.leaves(time.monotonic(), busy=..., resumed=...) or share.took(time.monotonic()):
        ...  # stop accepting until share.again
"""

from __future__ import annotations

import math
from typing import Final

_BURST: Final = 3
_WITHIN: Final = 0.002
_PAUSE: Final = 0.001
"""So many connections, within so many seconds, are followed by a pause of so many. Those who
come one by one as fast as one worker can answer them, some 1500 a second, see next to none."""
_MOST: Final = 8
_QUIET: Final = 0.01
"""So many pauses in a row, until there was no burst for so many seconds: thousands at once are
more than every worker's share anyway, and whoever stands behind them must not wait for it."""
_VAIN: Final = 0.05
"""After a connection that nobody wanted, the others are not asked for so many seconds: all are
busy, and a pause for each would only make everyone wait."""


class Share:
    """For one worker: when it has taken enough of a burst. Not thread-safe."""

    def __init__(self) -> None:
        self._since = -math.inf
        self._taken = 0
        self._burst = -math.inf
        self._pauses = 0
        self._asks_from = -math.inf
        self.again = math.inf
        """When to accept again; infinite where it is not paused."""

    def leaves(self, now: float, *, busy: bool, resumed: bool) -> bool:
        """Whether the others may take the connection that is there, until ``again``.

        ``busy``: a place here would have to be waited for. ``resumed``: a pause has just ended,
        so they had their time and left it.
        """
        if not busy:
            return False
        if resumed:
            self._asks_from = now + _VAIN
            return False
        if now < self._asks_from:
            return False
        self.again = now + _PAUSE
        return True

    def took(self, now: float) -> bool:
        """One connection was taken; True where the others come first now, until ``again``."""
        if now - self._since > _WITHIN:
            self._since, self._taken = now, 0
        self._taken += 1
        if self._taken < _BURST:
            return False
        self._since = -math.inf
        if now - self._burst > _QUIET:
            self._pauses = 0
        self._burst = now
        if self._pauses == _MOST:
            return False
        self._pauses += 1
        self.again = now + _PAUSE
        return True

    def is_over(self, now: float) -> bool:
        """Whether a pause has just ended; once for each."""
        if now < self.again:
            return False
        self.again = math.inf
        return True
