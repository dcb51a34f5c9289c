"""Who may change something: whether a request comes from this address itself or a strange page.

A browser sends requests to 127.0.0.1 for any page that asks it to. ``Origin`` names that page,
and ``Host`` the name by which the browser found the way here: a page whose own name points to
127.0.0.1 (DNS rebinding) has the right ``Origin`` and a strange ``Host``. Command-line tools
send no ``Origin``.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from werkzeug.sansio.utils import host_is_trusted
from werkzeug.wrappers import Request

from threadkit.settings import Settings


def objection(request: Request, settings: Settings) -> str | None:
    """Why this request must not change anything, or None where it may."""
    host = request.headers.get("Host", "")
    if not _is_ours(_name(host), settings):
        return (
            f"The Host {host!r} is none of this address: use an IP address or localhost, "
            "or name it in TRUSTED_HOSTS."
        )
    origin = request.headers.get("Origin")
    if origin is not None:
        scheme, _, place = origin.lower().partition("://")
        if scheme not in ("http", "https") or place != host.lower():
            return f"The Origin {origin!r} is another one than {host!r}."
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("same-origin", "none"):
        return f"The browser calls this request {site!r}: it comes from another page."
    return None


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _is_ours(name: str, settings: Settings) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return True  # no name server can make another machine's page come from a number
    own = _name(settings.admin_bind)
    return bool(name) and (name == own or host_is_trusted(name, settings.trusted_hosts))
