"""HTTP: parse, call a service, answer. One file a resource, one line here for each."""

from threadkit.web import Blueprint

from .items import blueprint as items  # noqa: F401

BLUEPRINTS = [value for value in list(globals().values()) if isinstance(value, Blueprint)]
