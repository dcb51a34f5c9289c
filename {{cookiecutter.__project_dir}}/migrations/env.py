"""Alembic's entry point: which tables, in which database."""

from importlib import import_module

from threadkit.database.migrations import migrate

PACKAGE = "{{ cookiecutter.package_name }}"

migrate(
    import_module(f"{PACKAGE}.models").Base.metadata,
    import_module(f"{PACKAGE}.settings").Settings,
)
