"""The console's page and the one thing that it can change."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterator

import pytest
from werkzeug.test import Client, TestResponse

from threadkit.admin import CONSOLE, ROUTES, AdminApp
from threadkit.concurrency import CancelScope
from threadkit.runtime import CANCELLED_BY_OPERATOR, RequestRecord, Runtime

MakeRuntime = Callable[..., Runtime]


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> Runtime:
    return make_runtime(trusted_hosts=".example.com")


@pytest.fixture
def client(runtime: Runtime) -> Client:
    return Client(AdminApp(runtime, {**ROUTES, **CONSOLE}))


@pytest.fixture
def record(runtime: Runtime) -> Iterator[RequestRecord]:
    with CancelScope() as scope:
        record = RequestRecord(id="abc", method="GET", path="/x")
        record.root = record.scope = scope
        runtime.requests.add(record)
        yield record


def post(client: Client, path: str, **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, headers={"Host": "127.0.0.1:9000", **named})


def test_the_page_is_whole_and_its_policy_allows_exactly_what_is_in_it(client: Client) -> None:
    answer = client.get("/debug/")
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    page, policy = answer.get_data(as_text=True), answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    # Nothing from elsewhere, nothing that the policy would refuse, no template left over.
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert not re.search(r"<[^>]*\s(on\w+|style)=", page)
    assert "innerHTML" not in page
    assert "{{" not in page


def test_without_its_slash_it_is_found_all_the_same(client: Client) -> None:
    answer = client.get("/debug")
    assert answer.status_code == 308
    assert answer.headers["Location"].endswith("/debug/")


def test_a_request_is_cancelled_by_its_id(client: Client, record: RequestRecord) -> None:
    answer = post(client, "/debug/requests/abc/cancel")
    assert answer.status_code == 200
    assert answer.get_json() == {
        "cancelled": [
            {"pid": os.getpid(), "number": record.number, "request": "GET /x", "by_this": True}
        ]
    }
    assert record.root is not None
    assert record.root.reason == CANCELLED_BY_OPERATOR
    again = post(client, "/debug/requests/abc/cancel")
    assert again.get_json()["cancelled"][0]["by_this"] is False


def test_of_two_with_the_same_id_the_number_tells_which(
    client: Client, runtime: Runtime, record: RequestRecord
) -> None:
    with CancelScope() as scope:
        twin = RequestRecord(id="abc", method="GET", path="/x")
        twin.root = twin.scope = scope
        runtime.requests.add(twin)
        target = f"/debug/requests/abc/cancel?pid={os.getpid()}&number={twin.number}"
        assert post(client, target).status_code == 200
        assert scope.over
    assert record.root is not None
    assert not record.root.over


@pytest.mark.parametrize(
    "target",
    [
        "/debug/requests/other/cancel",
        "/debug/requests/abc/cancel?pid=1",
        "/debug/requests/abc/cancel?number=0",
    ],
)
def test_what_is_not_there_is_404(client: Client, record: RequestRecord, target: str) -> None:
    assert post(client, target).status_code == 404
    assert record.root is not None
    assert not record.root.over


def test_looking_does_not_cancel(client: Client, record: RequestRecord) -> None:
    answer = client.get("/debug/requests/abc/cancel")
    assert answer.status_code == 405
    assert record.root is not None
    assert not record.root.over


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:9000"},
        {"Host": "[::1]:9000", "Origin": "http://[::1]:9000"},
        {"Host": "10.1.2.3:9000", "Origin": "http://10.1.2.3:9000"},
        {"Host": "admin.example.com", "Origin": "https://admin.example.com"},
        {"Origin": "http://127.0.0.1:9000", "Sec_Fetch_Site": "same-origin"},
    ],
)
@pytest.mark.usefixtures("record")
def test_its_own_page_and_tools_may_cancel(client: Client, headers: dict[str, str]) -> None:
    assert post(client, "/debug/requests/abc/cancel", **headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test:9000"},  # a name that was made to point here
        {"Host": "evil.test:9000", "Origin": "http://evil.test:9000"},
        {"Host": "127.0.0.1.evil.test"},
        {"Host": ""},
        {"Host": "[::1"},
        {"Origin": "http://evil.test"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000.evil.test"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_strange_pages_may_not(
    client: Client, record: RequestRecord, headers: dict[str, str]
) -> None:
    answer = post(client, "/debug/requests/abc/cancel", **headers)
    assert answer.status_code == 403
    assert record.root is not None
    assert not record.root.over


def test_with_a_token_nothing_of_it_is_there_without(make_runtime: MakeRuntime) -> None:
    client = Client(AdminApp(make_runtime(admin_token="a-token"), {**ROUTES, **CONSOLE}))
    for path in ("/debug/", "/debug", "/debug/vars", "/debug/vars?pid=all"):
        assert client.get(path).status_code == 404
        given = {"Authorization": "Bearer a-token"}
        assert client.get(path, headers=given).status_code in (200, 308)
    assert post(client, "/debug/requests/abc/cancel").status_code == 404
