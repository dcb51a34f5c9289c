"""How paths become parameters."""

from __future__ import annotations

from werkzeug.routing import IntegerConverter

MAX_ID = 2**63 - 1
"""The largest key that every database stores."""


def up_to(bound: int) -> str:
    """A regular expression for the decimal numbers from 0 to ``bound``, one spelling each."""
    digits = str(bound)
    alternatives = ["0", str(bound), f"[1-9][0-9]{{0,{len(digits) - 2}}}"]
    for place, digit in enumerate(digits):
        lowest = 1 if place == 0 else 0
        if int(digit) > lowest:
            rest = len(digits) - place - 1
            smaller = f"[{lowest}-{int(digit) - 1}]"
            alternatives.append(f"{digits[:place]}{smaller}[0-9]{{{rest}}}")
    return f"(?:{'|'.join(alternatives)})"


class IdConverter(IntegerConverter):
    """``<int:…>``, as one spelling a number, of those that a database can hold.

    Anything else (a sign, leading zeros, other scripts' digits, 65 bits) is another path,
    and answers 404.
    """

    # The bound stands in the expression and not in werkzeug's ``max``: a number that matches
    # and is too large would answer 405 where the path has routes for several methods.
    regex = up_to(MAX_ID)
