"""The database room: pools, sessions, limits, migrations.

    from threadkit.database import read, transaction

An owner's services need these two and the models' ``Base``; the rest is for the kit.
"""

from threadkit.database.engine import Database
from threadkit.database.session import read, transaction

__all__ = ["Database", "read", "transaction"]
