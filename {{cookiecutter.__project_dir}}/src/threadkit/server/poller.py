"""The main thread's part: accepts, and keeps every connection that waits for a request.

One epoll watches the listeners and all connections that belong to no thread. What arrives
is gathered without blocking; once a request is complete it is handed on. Each connection has
one deadline, looked after by a heap that is corrected when an entry comes up, so that a
thousand idle clients cost nothing while they are idle.

A thread that gives a connection back arms it itself: no queue, no waking of this thread.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import math
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from threadkit.limits import HEALTH
from threadkit.server.connection import Connection, State
from threadkit.server.faults import CROWDED, LATE_BODY, LATE_HEAD, TRUNCATED, Fault
from threadkit.server.share import Share
from threadkit.server.unfinished import Unfinished
from threadkit.server.wire import Limits, Stage

_READ: Final = select.EPOLLIN | select.EPOLLONESHOT
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SHARE: Final = 32
"""One in so many connections is dropped when there are too many; one by one would cost more."""
_LINGER: Final = 2.0
_DRAINED: Final = 1024 * 1024
"""Seconds that a client may take to close its side, and bytes that it may still send."""
_EXEMPT: Final = frozenset(path.encode() for path in HEALTH)
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that the poller waits for the next request, for a head, and for a body."""

    idle: float
    head: float
    body: float


class Poller:
    """Owns the connections that wait. ``turn`` is the main thread's; the rest is thread-safe."""

    def __init__(
        self,
        *,
        patience: Patience,
        limits: Limits,
        most: int,
        most_bytes: int,
        busy: Callable[[], bool],
        ready: Callable[[Connection, bool], None],
        faulty: Callable[[Fault, Connection], None],
    ) -> None:
        self._epoll = select.epoll()
        self._patience = patience
        self._limits = limits
        self._most = most
        self._busy = busy
        self._ready = ready
        self._faulty = faulty
        self._listeners: dict[int, tuple[socket.socket, object]] = {}
        self._share: Share | None = None
        self._wakers: dict[int, Callable[[], None]] = {}
        self.connections: dict[int, Connection] = {}
        # (when to look, a tie-breaker, connection); the main thread's.
        self._checks: list[tuple[float, int, Connection]] = []
        self._numbers = itertools.count()
        # What threads want looked at earlier than the heap would.
        self._sooner: deque[Connection] = deque()
        # Guards the hand-over: a connection must not be closed between its becoming ours and
        # its being armed, or the number that is armed would already be another one's.
        self._lock = threading.Lock()
        self.unfinished = Unfinished(most_bytes)  # under _lock
        self.dropped = 0

    def listen(self, listeners: Iterable[socket.socket], *, shared: bool) -> None:
        """Accept on these from now on; ``shared`` where other workers do so as well."""
        self._share = Share() if shared else None
        for listener in listeners:
            listener.setblocking(False)
            self._listeners[listener.fileno()] = (listener, listener.getsockname())
            # Not EPOLLEXCLUSIVE: it would wake the worker that asked first, however busy it is.
            self._epoll.register(listener.fileno(), select.EPOLLIN)

    def stop_listening(self) -> None:
        """Take what has connected already; the caller closes the listeners."""
        for fd, (listener, name) in list(self._listeners.items()):
            self._epoll.unregister(fd)
            while self._accept_one(listener, name):
                pass
        self._listeners.clear()

    def wake_by(self, fd: int, call: Callable[[], None]) -> None:
        """Have ``turn`` call this as soon as ``fd`` is readable."""
        self._wakers[fd] = call
        self._epoll.register(fd, select.EPOLLIN)

    def turn(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for something to happen and deal with it."""
        now = time.monotonic()
        if self._checks:
            timeout = min(timeout, max(0.0, self._checks[0][0] - now))
        resumed, share = False, self._share
        if share is not None:
            timeout = min(timeout, max(0.0, share.again - now))
            if resumed := share.is_over(now):
                self._watch_listeners(select.EPOLLIN)
        for fd, _ in self._epoll.poll(timeout, 128):
            if (connection := self.connections.get(fd)) is not None:
                # A number that was closed and used again in this very turn is not ours.
                if connection.state is not State.BUSY:
                    self._read(connection)
            elif (listener := self._listeners.get(fd)) is not None:
                # One a turn, so that between two the other events, the line's time limits and,
                # where this worker is busy, another worker have theirs.
                if share is not None and share.leaves(
                    time.monotonic(), busy=self._busy(), resumed=resumed
                ):
                    self._watch_listeners(0)
                    continue
                taken = self._accept_one(*listener)
                if taken and share is not None and share.took(time.monotonic()):
                    self._watch_listeners(0)
            elif (call := self._wakers.get(fd)) is not None:
                call()
        self._look_at_deadlines()

    def take_back(self, connection: Connection) -> None:
        """A thread has answered, and the connection is kept."""
        try:
            stage = connection.inflow.look()
        except Fault as fault:
            self._faulty(fault, connection)
            return
        if stage is Stage.READY:
            self._hand_on(connection, patient=False)
            return
        connection.last = time.monotonic()
        connection.stage = Stage.READY  # of the request before; what is there now is new
        self._keep(connection, stage)

    def see_off(self, connection: Connection) -> None:
        """The last answer is sent: end our side, and wait for the client to end its own.

        To close at once would reset a client that has still been sending, and the reset can
        destroy the answer (RFC 9112, section 9.6).
        """
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close(connection)
            return
        connection.inflow.forget()
        self._arm(connection, State.LEAVING, time.monotonic() + _LINGER)

    def close(self, connection: Connection) -> None:
        """Forget and close it, whoever of its owner asks; once."""
        with self._lock:
            if connection.state is State.CLOSED:
                return
            connection.state = State.CLOSED
            self.connections.pop(connection.fd, None)
            self.unfinished.forget(connection)
            connection.sock.close()

    def let_go(self, quiet_since: float) -> None:
        """Close the connections on which nothing of a request has come since then."""
        for connection in list(self.connections.values()):
            idle = connection.state is State.WAITING and connection.stage is Stage.IDLE
            if idle and connection.last <= quiet_since:
                self.close(connection)

    def shut(self) -> None:
        """Close everything."""
        for connection in list(self.connections.values()):
            self.close(connection)
        self._epoll.close()

    def _watch_listeners(self, events: int) -> None:
        for fd in self._listeners:
            self._epoll.modify(fd, events)

    def _accept_one(self, listener: socket.socket, name: object) -> bool:
        try:
            sock, client = listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._make_room()
                return False
            return error.errno == errno.ECONNABORTED
        if len(self.connections) >= self._most and not self._make_room():
            sock.close()
            return True
        sock.setblocking(False)
        if isinstance(client, tuple):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, client, name, self._limits)
        connection.deadline = connection.last + self._patience.head
        self.connections[connection.fd] = connection
        # Who has waited in the backlog has mostly sent the request by now.
        self._read(connection)
        return True

    def _read(self, connection: Connection) -> None:
        """Something happened on a connection that is ours."""
        try:
            data = connection.sock.recv(65_536)
        except BlockingIOError:
            self._arm(connection, connection.state, connection.deadline)
            return
        except OSError:
            self.close(connection)
            return
        if connection.state is State.LEAVING:
            self._drain(connection, len(data))
            return
        connection.state = State.BUSY
        if not data:
            if connection.stage is Stage.IDLE:
                self.close(connection)
            else:
                self._faulty(TRUNCATED, connection)
            return
        connection.last = time.monotonic()
        try:
            stage = connection.inflow.feed(data)
        except Fault as fault:
            self._faulty(fault, connection)
            return
        if stage is Stage.READY:
            self._hand_on(connection)
        else:
            self._keep(connection, stage)
            if self.unfinished.too_many:
                self._make_room_for_bytes()

    def _drain(self, connection: Connection, count: int) -> None:
        connection.drained += count
        if count == 0 or connection.drained > _DRAINED:
            self.close(connection)
        else:
            self._arm(connection, State.LEAVING, connection.deadline)

    def _hand_on(self, connection: Connection, *, patient: bool = True) -> None:
        connection.arrived = time.monotonic()
        connection.state = State.BUSY
        connection.stage = Stage.READY
        if connection.held:
            with self._lock:
                self.unfinished.forget(connection)
        inflow = connection.inflow
        connection.exempt = any(map(inflow.mentions, _EXEMPT)) and inflow.target() in _EXEMPT
        self._ready(connection, patient)

    def _keep(self, connection: Connection, stage: Stage) -> None:
        """It waits for more. What a time limit counts from is not what came last."""
        deadline = connection.deadline
        if stage is not connection.stage:
            connection.stage = stage
            deadline = time.monotonic() + self._patience_with(stage)
        if stage is Stage.BODY and connection.inflow.asks:
            connection.inflow.asks = False
            try:
                connection.sock.send(_CONTINUE)
            except OSError:
                self.close(connection)
                return
        self._arm(connection, State.WAITING, deadline)

    def _patience_with(self, stage: Stage) -> float:
        match stage:
            case Stage.HEAD:
                return self._patience.head
            case Stage.BODY:
                return self._patience.body
            case _:
                return self._patience.idle

    def _arm(self, connection: Connection, state: State, deadline: float) -> None:
        """It is the poller's from now on. The caller must not touch it any more."""
        with self._lock:
            if connection.state is State.CLOSED:
                return
            connection.deadline = deadline
            self.unfinished.count(connection)
            if deadline < connection.check_at:
                self._sooner.append(connection)
            connection.state = state
            if connection.known:
                self._epoll.modify(connection.fd, _READ)
            else:
                connection.known = True
                self._epoll.register(connection.fd, _READ)

    def _look_at_deadlines(self) -> None:
        while self._sooner:
            self._check(self._sooner.popleft(), 0.0)
        now = time.monotonic()
        while self._checks and self._checks[0][0] <= now:
            at, _, connection = heapq.heappop(self._checks)
            if connection.state is State.CLOSED or at != connection.check_at:
                continue
            connection.check_at = math.inf
            with self._lock:
                ours = connection.state in (State.WAITING, State.LEAVING)
                over = ours and connection.deadline <= now
                if over and connection.state is State.WAITING:
                    connection.state = State.BUSY
            if over:
                self._give_up(connection)
            else:
                # A busy one stays in the heap, or nobody would look at it again.
                self._check(connection, 0.0 if ours else now + 1.0)

    def _check(self, connection: Connection, at: float) -> None:
        at = at or connection.deadline
        if at < connection.check_at and connection.state is not State.CLOSED:
            connection.check_at = at
            heapq.heappush(self._checks, (at, next(self._numbers), connection))

    def _give_up(self, connection: Connection) -> None:
        if connection.state is State.LEAVING or connection.stage is Stage.IDLE:
            self.close(connection)
        else:
            late = LATE_HEAD if connection.stage is Stage.HEAD else LATE_BODY
            self._faulty(late, connection)

    def _make_room(self) -> bool:
        """Drop those that have been silent the longest; False where all are being answered."""
        waiting = [
            c for c in list(self.connections.values()) if c.state in (State.WAITING, State.LEAVING)
        ]
        for connection in heapq.nsmallest(1 + len(waiting) // _SHARE, waiting, key=_last):
            self.dropped += 1
            self.close(connection)
        return bool(waiting)

    def _make_room_for_bytes(self) -> None:
        """Refuse as many unfinished requests as there are too many."""
        with self._lock:
            waiting = [c for c in self.connections.values() if c.state is State.WAITING]
            surplus = self.unfinished.surplus(waiting)
            for connection in surplus:
                connection.state = State.BUSY
        for connection in surplus:
            self._faulty(CROWDED, connection)


def _last(connection: Connection) -> float:
    return connection.last
