"""Every error answers as a problem, and tells no more than the caller may know."""

from __future__ import annotations

from typing import Any

import flask
import pytest
from flask.testing import FlaskClient

from threadkit.concurrency import Cancelled, DeadlineExceeded, ExpiredInLine, Saturated
from threadkit.errors import Conflict, NotFound, Unavailable
from threadkit.web.problems import most_severe, status_of


def raising(app: flask.Flask, error: Exception) -> FlaskClient:
    @app.get("/raise")
    def view() -> str:
        raise error

    return app.test_client()


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/notes/", "GET", 404),
        ("//notes", "GET", 404),
        ("/notes/9223372036854775808", "GET", 404),
        ("/notes/-1", "GET", 404),
        ("/notes/01", "GET", 404),
        ("/notes/\u0661", "GET", 404),
        ("/notes/1" + "0" * 4000, "GET", 404),
        ("/metrics", "GET", 404),
        ("/debug/", "GET", 404),
        ("/notes", "PATCH", 405),
        ("/notes?word=%ff", "GET", 400),
    ],
)
def test_a_request_that_leads_nowhere(
    client: FlaskClient, problem: Any, path: str, method: str, status: int
) -> None:
    assert problem(client.open(path, method=method))["status"] == status


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("number", [2**63, 2**64, 10**19, 10**30])
def test_an_id_beyond_64_bits_is_404_for_every_method(
    client: FlaskClient, problem: Any, method: str, number: int
) -> None:
    assert problem(client.open(f"/notes/{number}", method=method))["status"] == 404


@pytest.mark.parametrize("number", [0, 9, 10, 10**18, 2**63 - 1])
def test_an_id_of_64_bits_is_found(client: FlaskClient, number: int) -> None:
    assert client.get(f"/notes/{number}").status_code == 200


def test_a_wrong_method_names_the_right_ones(client: FlaskClient, problem: Any) -> None:
    answer = client.patch("/notes")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert "POST" in problem(answer)["detail"]


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (NotFound("note", 7), 404, None),
        (Conflict("There is one already."), 409, None),
        (Unavailable("It is away.", retry_after=5), 503, "5"),
        (Saturated("full"), 503, "1"),
        (ExpiredInLine("no place before the deadline"), 503, "1"),
        (DeadlineExceeded("too late"), 504, None),
        (Cancelled("left"), 499, None),
    ],
)
def test_an_error_of_the_service_has_its_status(
    app: flask.Flask, problem: Any, error: Exception, status: int, retry: str | None
) -> None:
    answer = raising(app, error).get("/raise")
    assert problem(answer)["status"] == status
    assert answer.headers.get("Retry-After") == retry


def test_a_bug_answers_500_and_keeps_its_text_to_itself(
    app: flask.Flask, problem: Any, capfdbinary: Any
) -> None:
    answer = raising(app, ZeroDivisionError("the secret of the house")).get("/raise")
    assert problem(answer)["status"] == 500
    assert b"secret" not in answer.data
    assert b"secret" in capfdbinary.readouterr().out


def test_a_group_answers_as_its_most_severe_member(app: flask.Flask, problem: Any) -> None:
    group = ExceptionGroup(
        "tasks",
        [
            NotFound("note", 1),
            Cancelled("a sibling failed"),
            ExceptionGroup("nested", [Unavailable("It is away.")]),
        ],
    )
    assert problem(raising(app, group).get("/raise"))["status"] == 503


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ([NotFound("n", 1), ValueError("bug"), DeadlineExceeded("late")], 500),
        ([Unavailable("away"), DeadlineExceeded("late")], 504),
        ([NotFound("n", 1), Saturated("full")], 503),
        ([NotFound("n", 1), Cancelled("sibling")], 404),
        ([Cancelled("client left")], 499),
    ],
)
def test_severity_is_500_over_504_over_503_over_4xx(members: list[Exception], status: int) -> None:
    assert status_of(most_severe(ExceptionGroup("g", members))) == status
