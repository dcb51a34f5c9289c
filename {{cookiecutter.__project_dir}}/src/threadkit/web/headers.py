"""What every request is checked for and every answer carries, whatever its route."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import flask
from werkzeug.sansio.utils import host_is_trusted

from threadkit.errors import BadRequest
from threadkit.settings import Settings

HEALTH_PATHS = frozenset({"/livez", "/readyz"})

SECURITY_HEADERS: tuple[tuple[str, str], ...] = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # An answer depends on the moment; a handler that knows better sets its own.
    ("Cache-Control", "no-store"),
)


def check_host(settings: Settings, request: flask.Request) -> None:
    """Refuse a Host that is not in TRUSTED_HOSTS; probes ask by address and are let through."""
    if not settings.trusted_hosts or request.path in HEALTH_PATHS:
        return
    # In small letters, as the settings are, and without the dot that may end a name.
    name, colon, port = request.host.lower().partition(":")
    host = name.removesuffix(".") + colon + port
    if not host_is_trusted(host, settings.trusted_hosts):
        msg = "This service does not answer for that Host."
        raise BadRequest(msg)


def check_encoding(request: flask.Request) -> None:
    """Refuse a path or query that is not UTF-8; werkzeug would replace what it cannot read."""
    environ = request.environ
    query = environ.get("QUERY_STRING", "")
    if environ.get("PATH_INFO", "").isascii() and query.isascii() and "%" not in query:
        return
    parts = {
        "path": environ.get("PATH_INFO", "").encode("latin-1"),
        "query": unquote_to_bytes(query),
    }
    for name, raw in parts.items():
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            msg = f"The {name} is not UTF-8."
            raise BadRequest(msg) from error
