"""How paths become parameters."""

from __future__ import annotations

from werkzeug.routing import IntegerConverter

MAX_ID = 2**63 - 1
"""The largest key that every database stores."""


class IdConverter(IntegerConverter):
    """``<int:…>``, as one spelling a number, of those that a database can hold.

    Anything else (a sign, leading zeros, other scripts' digits, 65 bits) is another path,
    and answers 404.
    """

    regex = r"(?:0|[1-9][0-9]{0,18})"

    def __init__(self, *args: object, **options: object) -> None:
        options.setdefault("max", MAX_ID)
        super().__init__(*args, **options)  # type: ignore[arg-type]
