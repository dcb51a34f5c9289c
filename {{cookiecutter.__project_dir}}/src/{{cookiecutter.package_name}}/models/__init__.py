"""Tables. One file a table; all are imported here, so that Alembic compares every one."""

from importlib import import_module
from pkgutil import iter_modules

from .base import Base

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Base"]
