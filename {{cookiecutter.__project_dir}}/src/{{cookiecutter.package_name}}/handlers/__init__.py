"""HTTP: parse, call a service, answer. One file a resource, one line here for each."""

from threadkit.web import Blueprint

from .items import blueprint as items  # noqa: F401


def blueprints() -> list[Blueprint]:
    """All that this file names, wherever its line stands."""
    return [value for value in globals().values() if isinstance(value, Blueprint)]
