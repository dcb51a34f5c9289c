"""Variables that look like a setting and are none: ``REQUEST_TIMOUT`` changes nothing.

The environment holds much that is not ours, so a near miss is worth a warning and no more.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

_LIKENESS: Final = 0.88
"""One letter too many, missing, changed or swapped; REDIS_HOST is still no REDIS_URL."""


def warnings(environ: Mapping[str, str], names: Iterable[str]) -> Iterator[str]:
    """One sentence for each variable that is nearly the capitals of one of ``names``."""
    settings = {name.upper() for name in names}
    for variable in sorted(environ.keys() - settings):
        near = difflib.get_close_matches(variable, settings - environ.keys(), 1, _LIKENESS)
        if near:
            yield f"{variable} is set and is no setting: did you mean {near[0]}?"
