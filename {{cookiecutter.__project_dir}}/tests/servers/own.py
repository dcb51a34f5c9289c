"""What the servers that tests start for themselves have in common."""

from __future__ import annotations

import signal
import subprocess
from typing import ClassVar

from .processes import Unprivileged, eventually, free_ports


class OwnServer:
    """One process on a port of 127.0.0.1, with a folder that is deleted at the end.

    Starts in the constructor, and leaves nothing where that fails. A subclass keeps what it
    needs in order to ``_start`` before it calls this constructor.
    """

    name: ClassVar[str]
    """For people."""
    user: ClassVar[str]
    """Who runs it where the tests run as root."""
    farewell: ClassVar[signal.Signals] = signal.SIGTERM
    """Ends it without waiting for clients."""

    def __init__(self) -> None:
        self._unprivileged = Unprivileged(self.user)
        self.process: subprocess.Popen[bytes] | None = None
        (self.port,) = free_ports(1)
        try:
            self._start()
            eventually(self._accepts, what=f"{self.name} accepts connections")
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        """Set ``process``."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether one connection succeeds."""
        raise NotImplementedError

    def _accepts(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            msg = f"{self.name} did not start: {self._unprivileged.log()}"
            raise RuntimeError(msg)
        return self._answers()

    def stop(self) -> None:
        """End it, and delete its folder."""
        if self.process is not None:
            self.process.send_signal(self.farewell)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(15)
        self._unprivileged.remove()


class PostgresSpeaker(OwnServer):
    """One that psycopg can connect to, as ``postgres`` and without a password."""

    user = "postgres"

    def address(self, database: str) -> str:
        """Of a database there."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.address("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
