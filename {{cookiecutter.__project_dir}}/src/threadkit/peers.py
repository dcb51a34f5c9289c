"""How the workers of one service tell each other what to forget.

Each worker listens on a datagram socket of its own, in a private folder that the master has
made; a sender writes to every other socket in it. This is the invalidation bus of the
concurrency room. Go needs no counterpart: there all requests share one process.

Nothing is lost to a receiver that is slow. What does not fit into its queue is remembered as
"forget this whole cache" and sent again until it arrives, or the receiver is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from threadkit.concurrency import attach_invalidation_bus

log = logging.getLogger(__name__)

_SUFFIX: Final = ".bus"
_RETRY: Final = 0.01
"""Seconds between two attempts to reach a receiver whose queue was full."""
_LARGEST: Final = 32 * 1024
"""Bytes of a message; a longer key becomes "forget the whole cache"."""

Listener = Callable[[str, str | None], None]

_folder: Path | None = None
_master: int | None = None


def claim() -> Path:
    """In the master, before it forks: make the folder, once."""
    global _folder, _master
    if _folder is None or _master != os.getpid():
        _folder, _master = Path(tempfile.mkdtemp(prefix="threadkit-")), os.getpid()
        atexit.register(release)
    return _folder


def release() -> None:
    """In the master, last of all: remove the folder. A worker that calls it does nothing."""
    global _folder
    if _folder is not None and _master == os.getpid():
        shutil.rmtree(_folder, ignore_errors=True)
        _folder = None


def folder() -> Path | None:
    """The private folder of this service; None outside gunicorn."""
    return _folder


class Peers:
    """This worker's end of the bus; a ``Resource`` and an ``InvalidationBus``. Thread-safe.

    Without a folder (a script, a test) there are no peers, and nothing is started.
    """

    def __init__(self, *, folder: Callable[[], Path | None] = folder) -> None:
        self._find_folder = folder
        self._listener: Listener | None = None
        self._folder: Path | None = None
        self._socket: socket.socket | None = None
        # Apart from the socket that listens: its time-out would make sending wait, too.
        self._sender: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        # Guards _owed: caches that a peer has still to forget, by the peer's socket.
        self._lock = threading.Lock()
        self._owed: dict[Path, set[str]] = {}

    def __repr__(self) -> str:
        state = "listening" if self._thread is not None else "alone"
        return f"<Peers {state}, {len(self._owed)} behind>"

    def start(self) -> None:
        """Listen, and become the bus of this process."""
        self._folder = self._find_folder()
        if self._folder is None:
            return
        self._stopped = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        own = self._own()
        own.unlink(missing_ok=True)
        self._socket.bind(str(own))
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        attach_invalidation_bus(self)
        self._thread = threading.Thread(target=self._run, name="peers", daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """Forget the parent's thread, and its socket without closing it for the parent."""
        self._close_sockets()  # this process's descriptors; the parent has its own
        self._lock = threading.Lock()
        self._owed = {}

    def close(self) -> None:
        """Stop listening and join the thread."""
        if self._socket is None or self._thread is None:
            return
        attach_invalidation_bus(None)
        self._stopped = True
        self._wake()
        self._thread.join()
        self._own().unlink(missing_ok=True)
        self._close_sockets()

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener(cache, key)`` for what others publish, in the bus's own thread."""
        self._listener = listener

    def publish(self, cache: str, key: str | None) -> None:
        """Tell every other worker; returns at once, whatever their state."""
        message = json.dumps([cache, key]).encode()
        if len(message) > _LARGEST:
            message = json.dumps([cache, None]).encode()
        behind = [peer for peer in self._peers() if not self._send(peer, message)]
        if behind:
            with self._lock:
                for peer in behind:
                    self._owed.setdefault(peer, set()).add(cache)
            self._wake()

    def _peers(self) -> list[Path]:
        assert self._folder is not None
        own = self._own()
        return [path for path in self._folder.glob(f"*{_SUFFIX}") if path != own]

    def _own(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{os.getpid()}{_SUFFIX}"

    def _send(self, peer: Path, message: bytes) -> bool:
        """Whether nothing is left to do: it arrived, or nobody is there any more."""
        assert self._sender is not None
        try:
            self._sender.sendto(message, str(peer))
        except BlockingIOError:
            return False
        except (ConnectionRefusedError, FileNotFoundError):
            peer.unlink(missing_ok=True)  # a worker that was killed leaves its socket
        return True

    def _wake(self) -> None:
        # A full queue wakes the thread just as well, so failing to write is no matter.
        with contextlib.suppress(OSError):
            assert self._sender is not None
            self._sender.sendto(b"", str(self._own()))

    def _close_sockets(self) -> None:
        for each in (self._socket, self._sender):
            if each is not None:
                each.close()
        self._socket = self._sender = self._thread = None

    def _run(self) -> None:
        assert self._socket is not None
        while not self._stopped:
            self._socket.settimeout(_RETRY if self._owed else None)
            with contextlib.suppress(TimeoutError):
                self._receive(self._socket.recv(_LARGEST))
            self._settle_debts()

    def _receive(self, message: bytes) -> None:
        if not message or self._listener is None:
            return
        try:
            cache, key = json.loads(message)
            self._listener(cache, key)
        except Exception:
            log.exception("a peer's message could not be applied: %r", message[:200])

    def _settle_debts(self) -> None:
        with self._lock:
            owed, self._owed = self._owed, {}
        for peer, caches in owed.items():
            left = {
                cache
                for cache in caches
                if not self._send(peer, json.dumps([cache, None]).encode())
            }
            if left:
                with self._lock:
                    self._owed.setdefault(peer, set()).update(left)
