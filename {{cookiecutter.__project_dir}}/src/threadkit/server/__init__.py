"""The service under gunicorn: its configuration and what master and workers do around it.

``gunicorn.conf.py`` is a few lines that call ``gunicorn_settings``. Nothing here imports
the application or prometheus_client, so that the master stays small and safe to fork.
"""

from __future__ import annotations

from threadkit.server.config import gunicorn_settings

__all__ = ["gunicorn_settings"]
