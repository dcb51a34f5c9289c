"""The door for browsers: adds the token, and lets nobody in under another name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import urllib3

from threadkit.admin import CONSOLE, ROUTES, AdminApp, AdminServer
from threadkit.admin.door import Door, main
from threadkit.runtime import Runtime

MakeRuntime = Callable[..., Runtime]
Serve = Callable[..., tuple[AdminServer, tuple[str, int]]]
TOKEN = "a-token"


@pytest.fixture
def door(make_runtime: MakeRuntime, serve: Serve) -> Iterator[Door]:
    app = AdminApp(make_runtime(admin_token=TOKEN), {**ROUTES, **CONSOLE})
    _, (host, port) = serve(app)
    with Door(f"http://{host}:{port}", TOKEN, 0) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join(5)


def ask(door: Door, path: str, method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(retries=False, timeout=10) as http:
        address = f"http://127.0.0.1:{door.server_port}{path}"
        return http.request(method, address, headers=headers)


def test_through_the_door_the_console_is_there(door: Door) -> None:
    page = ask(door, "/debug/")
    assert page.status == 200
    assert "script-src 'sha256-" in page.headers["Content-Security-Policy"]
    numbers = ask(door, "/debug/vars?pid=all")
    assert numbers.status == 200
    assert numbers.json()["missing"] == []


def test_a_change_is_looked_at_by_the_other_side(door: Door) -> None:
    target = "/debug/requests/abc/cancel"
    own = f"http://127.0.0.1:{door.server_port}"
    assert ask(door, target, "POST", Origin=own).status == 404  # allowed, and not there
    assert ask(door, target, "POST", Origin="http://evil.test").status == 403


def test_a_page_that_points_its_own_name_here_sees_nothing(door: Door) -> None:
    answer = ask(door, "/debug/vars", Host=f"evil.test:{door.server_port}")
    assert answer.status == 403
    assert b"pid" not in answer.data


def test_an_address_that_does_not_answer_is_named() -> None:
    with Door("http://127.0.0.1:1", TOKEN, 0) as door:
        thread = threading.Thread(target=door.serve_forever, args=(0.02,))
        thread.start()
        try:
            answer = ask(door, "/debug/")
        finally:
            door.shutdown()
            thread.join(5)
    assert answer.status == 502
    assert b"127.0.0.1:1" in answer.data


def test_without_a_token_or_an_address_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ADMIN_TOKEN", raising=False)
    with pytest.raises(SystemExit):
        main(["http://127.0.0.1:9000"])
    assert "set ADMIN_TOKEN" in capsys.readouterr().err
    with pytest.raises(ValueError, match="write http://host:port"):
        Door("10.0.0.7:9000", TOKEN)
