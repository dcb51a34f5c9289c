"""Settings of your own, beside those of the kit; each is an environment variable."""

from __future__ import annotations

from typing import ClassVar

import threadkit


class Settings(threadkit.Settings):
    """A field here is read from the variable of its name in capitals.

    Give it a type, a default where there is a sane one, and a unit in its name or docstring.
    """

    default_database_url: ClassVar[str | None] = {{cookiecutter.__default_database_url}}

    prices_url: str = ""
    """Where the example asks for an item's price of today; empty: nobody is asked."""
