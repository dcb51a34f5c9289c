"""How the workers of a service ask each other: HTTP on a unix socket that each one listens on.

The sockets stand in the private folder that the master has made (0700), so who can reach
them could as well read the process. What is asked still needs the token, where there is one.

    for answer in Neighbours(runtime).ask_all("/debug/vars", seconds=1.0):
        answer.pid, answer.status, answer.body, answer.fault
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from threadkit import peers
from threadkit.profiling.switching import SWITCHING
from threadkit.runtime import Runtime

_SUFFIX: Final = ".http"
_BACKLOG: Final = 32
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker said; ``fault`` says why it did not, and then there is nothing else."""

    pid: int
    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fault: str | None = None


def listen() -> socket.socket | None:
    """This worker's own socket, 0600; None where no master has made a folder."""
    folder = peers.folder()
    if folder is None:
        return None
    path = _path(folder, os.getpid())
    path.unlink(missing_ok=True)  # of a worker that had our number and was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def silence(listener: socket.socket) -> None:
    """Close a socket that ``listen`` made, and take its name out of the folder."""
    with contextlib.suppress(OSError):
        Path(listener.getsockname()).unlink(missing_ok=True)
    listener.close()


def _path(folder: Path, pid: int) -> Path:
    return folder / f"{pid}{_SUFFIX}"


class Neighbours:
    """Asks the workers of this service over their sockets. Thread-safe: it holds nothing."""

    def __init__(
        self, runtime: Runtime, *, folder: Callable[[], Path | None] = peers.folder
    ) -> None:
        self._find_folder = folder
        token = runtime.settings.admin_token
        self._headers = {"Host": "localhost"}
        if token is not None and token.get_secret_value():
            self._headers["Authorization"] = f"Bearer {token.get_secret_value()}"

    def pids(self) -> list[int]:
        """Workers that have a socket, this one too; a killed one is found out when asked."""
        folder = self._find_folder()
        if folder is None:
            return [os.getpid()]
        found = {int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal()}
        return sorted(found | {os.getpid()})

    def ask_all(
        self,
        target: str,
        *,
        seconds: float,
        pids: Iterable[int] | None = None,
        left: Callable[[float], bool] | None = None,
    ) -> list[Answer]:
        """Every other worker's answer to GET ``target``, or why there is none.

        All are asked at once and nobody is waited for beyond ``seconds``. ``left`` waits
        like ``Event.wait`` and is true when the answer is no longer wanted. A worker that
        is gone is left out: its socket was only not yet swept.
        """
        wanted = [pid for pid in (self.pids() if pids is None else pids) if pid != os.getpid()]
        calls = [_Call(self._find_folder(), pid, target, self._headers, seconds) for pid in wanted]
        for call in calls:
            call.start()
        until = time.monotonic() + seconds
        for call in calls:
            while call.is_alive() and (rest := until - time.monotonic()) > 0:
                if left is None:
                    call.join(rest)
                elif left(min(rest, 0.02)):
                    until = 0.0
        for call in calls:
            call.interrupt()
        for call in calls:
            call.join(5.0)
        return [call.answer for call in calls if call.answer.fault != _GONE]

    def ask(self, pid: int, target: str, *, seconds: float, method: str = "GET") -> Answer:
        """One worker's answer; ``fault`` where there is none within ``seconds``."""
        call = _Call(self._find_folder(), pid, target, self._headers, seconds, method)
        with SWITCHING.at_most(None):  # it may take a profile of a minute
            call.run()
        return call.answer


_GONE: Final = "it has ended"


class _Call(threading.Thread):
    """One question. ``interrupt`` ends it from outside, as does its deadline."""

    def __init__(
        self,
        folder: Path | None,
        pid: int,
        target: str,
        headers: dict[str, str],
        seconds: float,
        method: str = "GET",
    ) -> None:
        super().__init__(name=f"admin-ask-{pid}", daemon=True)
        self._path = _path(folder, pid) if folder is not None else None
        self._question = (method, target)
        self._headers = headers
        self._until = time.monotonic() + seconds
        self._seconds = seconds
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.answer = Answer(pid, fault=f"no answer within {seconds:g} s")
        self._pid = pid

    def run(self) -> None:
        """Ask; the outcome is in ``answer``."""
        try:
            self.answer = self._ask()
        except (ConnectionRefusedError, FileNotFoundError):
            if self._path is not None:
                self._path.unlink(missing_ok=True)
            self.answer = Answer(self._pid, fault=_GONE)
        except TimeoutError:
            pass  # the answer says so from the start
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            if time.monotonic() < self._until:
                self.answer = Answer(self._pid, fault=f"the connection broke: {reason}")
        finally:
            self._socket.close()

    def interrupt(self) -> None:
        """Make a thread that is blocked on the socket come back."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _ask(self) -> Answer:
        if self._path is None:
            return Answer(self._pid, fault=_GONE)
        self._socket.settimeout(self._seconds)
        self._socket.connect(str(self._path))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = self._socket
        method, target = self._question
        connection.request(method, target, headers=self._headers)
        response = connection.getresponse()
        body = bytearray()
        # The time-out of a socket is per read: a worker that trickles must not get more.
        while chunk := response.read(256 * 1024):
            body += chunk
            if len(body) > LARGEST or time.monotonic() > self._until:
                raise TimeoutError
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(self._pid, response.status, bytes(body), headers)
