"""A start that cannot succeed says so in one sentence, before a worker exists."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from threadkit import listeners
from threadkit.server import addresses


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free() -> int:
    """A port on which nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_public_port_in_use_names_address_and_remedy(taken: int) -> None:
    with pytest.raises(SystemExit) as ended:
        addresses.check_public(("127.0.0.1", taken))
    message = str(ended.value)
    assert message.startswith(f"Cannot listen on 127.0.0.1:{taken}: another process")
    assert "set BIND to another port" in message
    assert "\n" not in message


def test_a_free_port_stays_free(free: int) -> None:
    addresses.check_public(("127.0.0.1", free))
    socket.create_server(("127.0.0.1", free)).close()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"192\.0\.2\.1:80: no interface of this machine"):
        addresses.check_public(("192.0.2.1", 80))


def test_an_open_descriptor_is_left_alone() -> None:
    addresses.check_public(3)


def test_a_unix_socket_needs_its_folder(tmp_path: Path) -> None:
    addresses.check_public(str(tmp_path / "socket"))
    with pytest.raises(SystemExit, match="there is no folder"):
        addresses.check_public(str(tmp_path / "missing" / "socket"))


def test_an_admin_port_in_use_names_its_own_setting(taken: int) -> None:
    with pytest.raises(SystemExit, match="set ADMIN_BIND to another port"):
        addresses.bind_admin(f"127.0.0.1:{taken}")
    assert listeners.admin() is None


def test_the_admin_listener_is_shared_by_not_blocking(free: int) -> None:
    addresses.bind_admin(f"127.0.0.1:{free}")
    listener = listeners.admin()
    assert listener is not None
    assert not listener.getblocking()
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0


def test_an_empty_admin_address_listens_nowhere() -> None:
    addresses.bind_admin("")
    assert listeners.admin() is None


def test_a_new_master_takes_over_the_admin_listener(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{free}"
    addresses.bind_admin(address)
    environ: dict[str, str] = {}
    addresses.hand_over_admin(environ)
    old = listeners.admin()
    assert old is not None
    assert old.get_inheritable()
    # What exec does: the descriptor stays, the objects go.
    monkeypatch.setenv(addresses.ADMIN_FD, str(os.dup(int(environ[addresses.ADMIN_FD]))))
    monkeypatch.setenv("GUNICORN_PID", "1")
    addresses.bind_admin(address)
    new = listeners.admin()
    assert new is not None
    assert new is not old
    assert new.getsockname() == ("127.0.0.1", free)
    assert addresses.ADMIN_FD not in os.environ
