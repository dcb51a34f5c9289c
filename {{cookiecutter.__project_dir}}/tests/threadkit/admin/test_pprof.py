"""``/debug/pprof/`` keeps Go's contract to the letter."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.datastructures import MultiDict
from werkzeug.test import Client, TestResponse

from threadkit.admin import ROUTES, AdminApp, pprof, pprof_query
from threadkit.profiling.decode import decode
from threadkit.profiling.kinds import PLACE
from threadkit.runtime import RequestRecord, Runtime

MakeRuntime = Callable[..., Runtime]
NAMED = ["goroutine", "threadcreate", "heap", "block", "wall"]
AT_ONCE = ["goroutine", "threadcreate", "heap", "mutex"]


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> Runtime:
    return make_runtime()


@pytest.fixture
def client(runtime: Runtime) -> Client:
    return Client(AdminApp(runtime, {**ROUTES, **pprof.ROUTES}))


@pytest.fixture
def held() -> Iterator[threading.Thread]:
    """A thread that waits for a lock until the test is over."""
    lock = threading.Lock()
    lock.acquire()

    def wait_here() -> None:
        lock.acquire()

    thread = threading.Thread(target=wait_here, name="held")
    thread.start()
    yield thread
    lock.release()
    thread.join(10)


def refused(response: TestResponse, status: int, text: str) -> None:
    assert response.status_code == status
    assert response.text == f"{text}\n"
    assert response.headers["X-Go-Pprof"] == "1"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Disposition" not in response.headers


@pytest.mark.parametrize("name", AT_ONCE[:3])
@pytest.mark.usefixtures("held")
def test_a_named_profile_is_a_file_in_gos_format(client: Client, name: str) -> None:
    response = client.get(f"/debug/pprof/{name}")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert decode(response.data).total() >= 1


@pytest.mark.parametrize("name", AT_ONCE)
@pytest.mark.parametrize("debug", ["1", "2", "-1"])
def test_debug_is_text(client: Client, name: str, debug: str) -> None:
    response = client.get(f"/debug/pprof/{name}?debug={debug}")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "Content-Disposition" not in response.headers


@pytest.mark.parametrize("name", ["unknown", "GOROUTINE", "heap%2F..", "goroutine%00"])
def test_an_unknown_name_is_404_in_gos_words(client: Client, name: str) -> None:
    response = client.get(f"/debug/pprof/{name}")
    assert response.status_code == 404
    if "%2F" not in name:
        refused(response, 404, "Unknown profile")


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("seconds", ["0", "-1", "1.5", "x", "1_0", " 1", "٣", "9" * 30])
def test_seconds_that_are_none_are_refused_by_a_named_profile(
    client: Client, name: str, seconds: str
) -> None:
    response = client.get(f"/debug/pprof/{name}", query_string={"seconds": seconds})
    refused(response, 400, 'invalid value for "seconds" - must be a positive integer')


@pytest.mark.parametrize("name", NAMED)
def test_seconds_and_debug_are_incompatible(client: Client, name: str) -> None:
    response = client.get(f"/debug/pprof/{name}?seconds=1&debug=1")
    refused(response, 400, "seconds and debug params are incompatible")


@pytest.mark.parametrize("name", NAMED)
def test_too_long_a_profile_is_refused_with_the_limit(client: Client, name: str) -> None:
    response = client.get(f"/debug/pprof/{name}?seconds=61")
    refused(response, 400, "profile duration exceeds the limit of 60 seconds")


@pytest.mark.parametrize(
    ("query", "said"),
    [("hz=251", "250"), ("depth=129", "128"), ("format=svg", "html"), ("pid=x", "all")],
)
def test_what_cannot_be_done_is_refused_with_what_can(
    client: Client, query: str, said: str
) -> None:
    response = client.get(f"/debug/pprof/goroutine?{query}")
    assert response.status_code == 400
    assert said in response.text


def test_seconds_ask_a_named_profile_for_the_difference(client: Client) -> None:
    response = client.get("/debug/pprof/goroutine?seconds=1")
    assert response.headers["Content-Disposition"] == 'attachment; filename="goroutine-delta"'
    assert abs(decode(response.data).total()) <= 1
    assert decode(response.data).duration_ns >= 900_000_000


def test_a_worker_that_is_none_is_named(client: Client) -> None:
    response = client.get("/debug/pprof/goroutine?pid=999999999")
    assert response.status_code == 404
    assert "no worker with pid 999999999" in response.text


def test_the_thread_dump_shows_names_states_and_requests(
    client: Client, runtime: Runtime, held: threading.Thread
) -> None:
    record = RequestRecord("id-7", "GET", "/v1/items/7", thread_id=held.ident or 0)
    record.route = "/v1/items/<id>"
    runtime.requests.add(record)
    samples = decode(client.get("/debug/pprof/goroutine").data).samples
    labels = next(dict(tags) for _, tags in samples if dict(tags)["thread"] == "held")
    assert labels == {
        "thread": "held",
        "state": "lock",
        "endpoint": "/v1/items/<id>",
        "method": "GET",
    }
    text = client.get("/debug/pprof/goroutine?debug=2").text
    (head,) = [line for line in text.splitlines() if '"held"' in line]
    assert head.startswith(f"goroutine {held.native_id} [lock, ")
    assert "GET /v1/items/<id>" in head
    assert "request id-7" in head
    assert "no time limit" in head
    assert "wait_here(...)\n\t" in text
    grouped = client.get("/debug/pprof/goroutine?debug=1").text
    assert grouped.startswith("goroutine profile: total ")
    assert "# threads: held" in grouped


def test_symbol_says_that_none_is_needed(client: Client) -> None:
    assert client.get("/debug/pprof/symbol").text == "num_symbols: 1\n"
    assert client.post("/debug/pprof/symbol", data="0x1+0x2").text == "num_symbols: 1\n"


def test_the_command_line_hides_secrets(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["python", "--env", "ADMIN_TOKEN=abc", "--password", "abc", "-m", "x"]
    arguments += ["--url=postgresql://me:abc@host/db", "--api-key=abc", "--bind", "1.2.3.4:5"]
    monkeypatch.setattr("sys.orig_argv", arguments)
    shown = client.get("/debug/pprof/cmdline").text
    assert "abc" not in shown
    assert shown.split("\x00")[0] == "python"
    assert shown.endswith("--bind\x001.2.3.4:5")
    assert "postgresql://me:[redacted]@host/db" in shown


def test_the_index_asks_all_workers_and_shows_each_profile(client: Client) -> None:
    response = client.get("/debug/pprof/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    for name in NAMED:
        assert f'href="{name}?' in response.text
    assert "pid=all" in response.text


def test_without_the_slash_it_redirects_as_gos_mux_does(client: Client) -> None:
    response = client.get("/debug/pprof")
    assert response.status_code in (301, 308)
    assert response.headers["Location"].endswith("/debug/pprof/")


@pytest.mark.parametrize("path", ["", "goroutine", "goroutine?debug=2", "cmdline", "nowhere"])
@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer wrong"}])
def test_without_the_token_there_is_nothing(
    make_runtime: MakeRuntime, path: str, given: dict[str, Any]
) -> None:
    client = Client(AdminApp(make_runtime(admin_token="right"), {**ROUTES, **pprof.ROUTES}))
    response = client.get(f"/debug/pprof/{path}", headers=given)
    assert response.status_code == 404
    assert response.mimetype == "application/problem+json"
    assert b"thread" not in response.data
    right = client.get(f"/debug/pprof/{path}", headers={"Authorization": "Bearer right"})
    assert right.status_code == (404 if path == "nowhere" else 200)


def test_without_a_token_only_this_machine_may_ask(client: Client) -> None:
    for address, status in [("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 404)]:
        response = client.get("/debug/pprof/goroutine", environ_overrides={"REMOTE_ADDR": address})
        assert response.status_code == status


def test_no_past_allocations_are_made_up(client: Client) -> None:
    response = client.get("/debug/pprof/allocs")
    assert response.status_code == 501
    assert "heap?seconds=5" in response.text
    assert response.headers["X-Go-Pprof"] == "1"


def test_mutex_says_how_to_make_locks_that_keep_accounts(client: Client) -> None:
    gc.collect()  # locks of other tests
    profile = decode(client.get("/debug/pprof/mutex").data)
    assert [each.type for each in profile.types] == ["contentions", "delay"]
    assert "ProfiledLock" in " ".join(profile.comments)


def test_the_heap_as_text_has_the_process_in_it(client: Client) -> None:
    text = client.get("/debug/pprof/heap?debug=1&gc=1").text
    assert text.startswith("heap profile: total ")
    assert "# RSS = " in text


@pytest.mark.parametrize("name", ["profile", "wall", "block", "trace", "goroutine"])
def test_a_second_profile_is_refused_at_once_in_gos_words(client: Client, name: str) -> None:
    with PLACE.claim():
        began = time.monotonic()
        response = client.get(f"/debug/pprof/{name}?seconds=1")
        passed = time.monotonic() - began
    title = {"profile": "CPU profiling", "trace": "tracing"}.get(name, name)
    refused(response, 500, f"Could not enable {title}: cpu profiling already in use")
    assert passed < 1


def test_what_takes_no_time_is_not_kept_waiting_by_a_profile(client: Client) -> None:
    with PLACE.claim():
        for name in AT_ONCE:
            assert client.get(f"/debug/pprof/{name}").status_code == 200


@pytest.mark.parametrize("seconds", ["0.2", "nan", "-1", "x", ""])
def test_a_trace_is_chrome_trace_events_and_says_so(client: Client, seconds: str) -> None:
    response = client.get("/debug/pprof/trace", query_string={"seconds": seconds, "hz": "20"})
    assert response.headers["Content-Disposition"] == 'attachment; filename="trace"'
    assert response.headers["X-Pprof-Format"] == "chrome-trace-events"
    document = json.loads(response.data)
    assert "not Go's" in document["otherData"]["format"]
    assert document["traceEvents"]


@pytest.mark.parametrize("seconds", ["61", "1e9", "inf"])
@pytest.mark.parametrize("name", ["trace", "wall", "block"])
def test_nothing_takes_longer_than_the_limit(client: Client, name: str, seconds: str) -> None:
    response = client.get(f"/debug/pprof/{name}", query_string={"seconds": seconds})
    assert response.status_code == 400
    if seconds == "61" or name == "trace":
        assert "the limit of 60 seconds" in response.text


def test_every_format_of_one_profile(client: Client) -> None:
    base = "/debug/pprof/wall?seconds=1&hz=20&format="
    page = client.get(base + "html")
    assert page.mimetype == "text/html"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert client.get("/debug/pprof/goroutine?format=collapsed").mimetype == "text/plain"
    page = client.get("/debug/pprof/goroutine?format=top")
    assert page.mimetype == "text/plain"
    assert page.text.startswith("goroutine: ")
    scope = client.get("/debug/pprof/goroutine?format=speedscope")
    assert scope.mimetype == "application/json"
    assert json.loads(scope.data)["exporter"] == "threadkit"


@pytest.mark.parametrize(
    ("given", "seconds"), [("", 30), ("0", 30), ("-5", 30), ("x", 30), ("1.5", 30), ("7", 7)]
)
def test_seconds_of_the_cpu_profile_are_read_as_go_reads_them(given: str, seconds: int) -> None:
    assert pprof_query.read("profile", MultiDict({"seconds": given})).seconds == seconds
