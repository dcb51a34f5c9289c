"""A thread that waits says what for."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from threadkit.concurrency import BoundedExecutor, Bulkhead, TaskGroup, sleep
from threadkit.profiling.classify import KINDS
from threadkit.profiling.threads import Thread, snapshot

Stop = list[Callable[[], object]]


def seen(thread: threading.Thread) -> Thread:
    return next(t for t in snapshot() if t.ident == thread.ident)


def settles(thread: threading.Thread, kind: str) -> bool:
    """Whether the thread is seen to be ``kind`` within the bound: it needs time to get there."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if seen(thread).wait.kind == kind:
            return True
        threading.Event().wait(0.005)
    return False


def on_lock(stop: Stop) -> None:
    lock = threading.Lock()
    lock.acquire()
    stop.append(lock.release)
    lock.acquire()


def on_with_lock(stop: Stop) -> None:
    lock = threading.Lock()
    lock.acquire()
    stop.append(lock.release)
    with lock:
        pass


def on_queue(stop: Stop) -> None:
    waiting: queue.Queue[int] = queue.Queue()
    stop.append(partial(waiting.put, 1))
    waiting.get()


def on_simple_queue(stop: Stop) -> None:
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    stop.append(partial(waiting.put, 1))
    waiting.get()


def on_event(stop: Stop) -> None:
    event = threading.Event()
    stop.append(event.set)
    event.wait()


def on_socket(stop: Stop) -> None:
    ours, theirs = socket.socketpair()
    stop.append(theirs.close)
    with ours:
        ours.recv(1)


def on_future(stop: Stop) -> None:
    future: Future[int] = Future()
    stop.append(partial(future.set_result, 1))
    future.result()


def on_join(stop: Stop) -> None:
    event = threading.Event()
    other = threading.Thread(target=event.wait)
    other.start()
    stop.append(event.set)
    other.join()


def on_group(stop: Stop) -> None:
    event = threading.Event()
    stop.append(event.set)
    with BoundedExecutor(max_workers=1, queue_size=1) as executor:
        executor.submit(event.wait).result()


def on_sleep(stop: Stop) -> None:
    stop.append(int)
    time.sleep(0.4)


def on_scope_sleep(stop: Stop) -> None:
    stop.append(int)
    with TaskGroup(limit=1):
        sleep(0.4)


def on_bulkhead(stop: Stop) -> None:
    bulkhead = Bulkhead("narrow", max_concurrent=1, max_waiting=1, max_wait=30)
    bulkhead.acquire()
    stop.append(bulkhead.release)
    with bulkhead:
        pass


def on_process(stop: Stop) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    stop.append(child.stdin.close)
    child.wait()


WAITS: dict[Callable[[Stop], None], str] = {
    on_lock: "lock",
    on_with_lock: "lock",
    on_queue: "queue",
    on_simple_queue: "queue",
    on_event: "condition",
    on_socket: "socket",
    on_future: "task",
    on_join: "task",
    on_group: "task",
    on_sleep: "sleep",
    on_scope_sleep: "sleep",
    on_bulkhead: "line",
    on_process: "process",
}


@pytest.mark.parametrize("wait", WAITS, ids=lambda f: f.__name__)
def test_what_a_thread_waits_for(wait: Callable[[Stop], None]) -> None:
    stop: Stop = []
    thread = threading.Thread(target=wait, args=(stop,), name="waits")
    thread.start()
    try:
        assert settles(thread, WAITS[wait]), seen(thread)
    finally:
        stop[0]()
        thread.join(10)
    assert not thread.is_alive()


def test_in_a_thread_of_a_pool_a_task_that_waits_is_not_idle() -> None:
    event, threads = threading.Event(), []

    def task() -> None:
        threads.append(threading.current_thread())
        event.wait(10)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(task)
        while not threads:
            threading.Event().wait(0.001)
        assert settles(threads[0], "condition")
        event.set()
        future.result(10)
        assert settles(threads[0], "idle")


def test_a_thread_that_works_is_running() -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(50))

    thread = threading.Thread(target=spin)
    thread.start()
    looks = [seen(thread).wait.kind for _ in range(20)]
    stop.set()
    thread.join(10)
    assert looks.count("running") >= 18


def test_every_kind_that_it_names_is_listed() -> None:
    assert set(WAITS.values()) <= set(KINDS)
