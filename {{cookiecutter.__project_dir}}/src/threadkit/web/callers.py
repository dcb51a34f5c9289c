"""Time limits that callers send: a request that nobody waits for any more is not worth serving.

Three spellings are understood, of gRPC, of Envoy and our own; the smallest holds. They are
taken from anyone, since they can only shorten.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

GRPC_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def _grpc(value: str) -> float | None:
    match = re.fullmatch(r"([0-9]{1,8})([HMSmun])", value)
    return int(match[1]) * GRPC_UNITS[match[2]] if match else None


def _milliseconds(value: str) -> float | None:
    return int(value) / 1000 if re.fullmatch(r"[0-9]{1,12}", value) else None


def _seconds(value: str) -> float | None:
    return float(value) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) else None


HEADERS: Final[Mapping[str, Callable[[str], float | None]]] = {
    "HTTP_GRPC_TIMEOUT": _grpc,
    "HTTP_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS": _milliseconds,
    "HTTP_X_REQUEST_TIMEOUT": _seconds,
}


def time_limit(environ: Mapping[str, Any], malformed: Callable[[], None]) -> float | None:
    """Seconds that the caller grants, or None; ``malformed`` is called for each bad header."""
    shortest = math.inf
    for name, parse in HEADERS.items():
        if (value := environ.get(name)) is None:
            continue
        if (seconds := parse(value.strip())) is None:
            malformed()
        else:
            shortest = min(shortest, seconds)
    return None if shortest == math.inf else shortest
