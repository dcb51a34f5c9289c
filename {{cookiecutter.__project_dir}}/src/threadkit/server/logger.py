"""gunicorn's own messages, in the service's log.

gunicorn formats for itself by default; here its loggers lead to the root handler that
``observability.logs`` has put in place, so that there is one form and one stream.
"""

from __future__ import annotations

import logging
from typing import Any

from gunicorn import glogging  # type: ignore[import-untyped]


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's ``logger_class``; knows no access log, the service writes its own."""

    def setup(self, cfg: Any) -> None:
        """Called for each configuration that is read. Takes its level, no handlers."""
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    @property
    def access_log_enabled(self) -> bool:
        """False, so that workers do not even gather what such a line would hold."""
        return False

    def access(self, *_: Any) -> None:
        """Nothing."""
