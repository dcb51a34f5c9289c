"""Workers reach each other, and none waits for one that does not answer."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from werkzeug.test import Client

from threadkit import listeners, peers
from threadkit.admin import ROUTES, AdminApp, AdminServer, neighbours, pprof
from threadkit.admin.neighbours import Neighbours
from threadkit.profiling.decode import decode
from threadkit.runtime import Runtime

MakeRuntime = Callable[..., Runtime]
OTHER = 4_000_001  # beyond any process's number


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The service's private folder; short, since a socket's name has room for 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="tk-"))
    monkeypatch.setattr(peers, "_folder", made)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def serving(folder: Path, make_runtime: MakeRuntime) -> Iterator[AdminServer]:
    """A worker's admin server, whose own socket is renamed: it plays a neighbour."""
    listener = listeners.listen("127.0.0.1", 0)
    server = AdminServer(
        AdminApp(make_runtime(admin_token="t"), {**ROUTES, **pprof.ROUTES}),
        listener=lambda: listener,
    )
    server.start()
    yield server
    server.close()
    listener.close()


def play(folder: Path, pid: int) -> None:
    (folder / f"{os.getpid()}.http").rename(folder / f"{pid}.http")


def test_the_socket_is_private_and_goes_with_its_worker(folder: Path) -> None:
    made = neighbours.listen()
    assert made is not None
    (path,) = folder.glob("*.http")
    assert path.name == f"{os.getpid()}.http"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    neighbours.silence(made)
    assert list(folder.glob("*.http")) == []


def test_a_stale_socket_does_not_keep_a_worker_from_listening(folder: Path) -> None:
    (folder / f"{os.getpid()}.http").touch()
    made = neighbours.listen()
    assert made is not None
    neighbours.silence(made)


def test_a_neighbour_answers_who_has_the_token(
    folder: Path, serving: AdminServer, make_runtime: MakeRuntime
) -> None:
    play(folder, OTHER)
    asks = Neighbours(make_runtime(admin_token="t"))
    assert asks.pids() == sorted([os.getpid(), OTHER])
    (answer,) = asks.ask_all("/metrics", seconds=10)
    assert (answer.pid, answer.status, answer.fault) == (OTHER, 200, None)
    assert b"# HELP" in answer.body
    wrong = Neighbours(make_runtime(admin_token="other")).ask(OTHER, "/metrics", seconds=10)
    assert wrong.status == 404


def test_one_that_is_gone_is_left_out_and_swept(folder: Path, make_runtime: MakeRuntime) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / f"{OTHER}.http"))
    assert Neighbours(make_runtime()).ask_all("/livez", seconds=10) == []
    assert list(folder.glob("*.http")) == []


def test_one_that_hangs_is_named_and_not_waited_for(
    folder: Path, make_runtime: MakeRuntime
) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / f"{OTHER}.http"))
        deaf.listen()
        began = time.monotonic()
        (answer,) = Neighbours(make_runtime()).ask_all("/livez", seconds=0.3)
        assert time.monotonic() - began < 3
    assert answer.fault == "no answer within 0.3 s"


def test_who_is_not_interested_any_more_does_not_wait(
    folder: Path, make_runtime: MakeRuntime
) -> None:
    gone = threading.Event()
    gone.set()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / f"{OTHER}.http"))
        deaf.listen()
        began = time.monotonic()
        Neighbours(make_runtime()).ask_all("/livez", seconds=30, left=gone.wait)
        assert time.monotonic() - began < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("admin-ask")]


def test_without_a_master_a_worker_is_alone(make_runtime: MakeRuntime) -> None:
    alone = Neighbours(make_runtime(), folder=lambda: None)
    assert alone.pids() == [os.getpid()]
    assert alone.ask_all("/livez", seconds=1) == []


def test_the_sum_of_all_has_each_workers_share_and_names_who_is_missing(
    folder: Path, serving: AdminServer, make_runtime: MakeRuntime
) -> None:
    play(folder, OTHER)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / f"{OTHER + 1}.http"))
        deaf.listen()
        client = Client(AdminApp(make_runtime(admin_token="t"), pprof.ROUTES))
        headers = {"Authorization": "Bearer t"}
        response = client.get("/debug/pprof/threadcreate?pid=all", headers=headers)
        text = client.get("/debug/pprof/goroutine?pid=all&debug=2", headers=headers).text
    profile = decode(response.data)
    pids = {dict(tags)["pid"] for _, tags in profile.samples}
    assert pids == {str(os.getpid()), str(OTHER)}
    assert f"worker {OTHER + 1} is missing: no answer within 1.5 s" in profile.comments
    assert "the sum of 2 workers" in profile.comments
    assert f"# worker {OTHER}\ngoroutine " in text
