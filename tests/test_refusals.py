"""Answers that could not become a service are refused, with the remedy, and leave nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter

from tests.snapshot import ROOT

NOT_TEXT_FOR_PEOPLE = {
    "empty": "",
    "blank": "   ",
    "long": "x" * 400,
    "line break": "one\ntwo",
    "carriage return": "one\rtwo",
    "line separator": "one\u2028two",
    "table breaker": 'x"\n[project.scripts]\nevil = "os:system',
    "mapping breaker": "x\nevil: yes",
    "bell": "ding\a",
    "terminal colours": "\x1b[31mred",
    "nul": "a\0b",
    "reversed": "\u202egnp.exe",
    "half of a pair": "\ud800",
}
BAD_SLUGS = [
    *("", " ", ".", "..", "../../evil", "/evil", "a/b", "a\\b", "~", "~/evil", "$HOME"),
    *("Upper", "two words", "under_score", "-dash", "dash-", "two--dashes", "1st", "dot.ted"),
    *("naïve", "заказы", "🎉", "a\nb", "a\0b", "a;b", "a&b", "`id`", "$(id)", "*", "?", "x" * 400),
    *('"; import os; os.abort(); "', "'", '"', "#", ": ", "- x", "<b>", "con:", "%2e%2e"),
]
BAD_PACKAGES = [
    *("", " ", ".", "..", "../../evil", "/evil", "a/b", "a.b", "a-b", "1st", "Upper", "_private"),
    *("__init__", "naïve", "заказы", "🎉", "a b", "a\nb", "a\0b", "x" * 41, "x" * 400),
    *(
        '"; import os; os.abort(); "',
        "'",
        '"',
        "#",
        ": ",
        "import os",
        "x;y",
        "\uff46\uff4c\uff41\uff53\uff4b",
    ),
    *("class", "def", "async", "match", "type", "case", "lambda", "json", "sys", "os", "queue"),
    *("threading", "test", "site", "types", "flask", "sqlalchemy", "gunicorn", "threadkit"),
    *("tests", "src", "migrations", "alembic", "pydantic", "structlog", "urllib3", "pytest"),
    *("end_to_end", "servers", "benchmarks", "conftest", "psycopg", "redis", "opentelemetry"),
]
CASES = (
    [(option, value) for option in ("project_name", "description", "author")
     for value in NOT_TEXT_FOR_PEOPLE.values()]
    + [("project_slug", value) for value in BAD_SLUGS]
    + [("package_name", value) for value in BAD_PACKAGES]
)  # fmt: skip
REMEDIES = ("use ", "choose another", "write ")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output folder deep enough that a name which climbs out of it stays in sight."""
    folder = tmp_path / "a" / "b" / "output"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(("option", "value"), CASES, ids=lambda value: ascii(value)[:60])
def test_a_bad_answer_is_refused_with_its_remedy(
    template: Path,
    user_config: Path,
    output: Path,
    capfd: pytest.CaptureFixture[str],
    option: str,
    value: str,
) -> None:
    answers = {"project_slug": "fine", "package_name": "fine", option: value}
    before = sorted(output.parents[2].rglob("*"))
    with pytest.raises(FailedHookException, match="exit status: 1"):
        cookiecutter(
            str(template),
            no_input=True,
            extra_context=answers,
            output_dir=str(output),
            config_file=str(user_config),
        )
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("  - ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"  - {option}='") or lines[0].startswith(f'  - {option}="')
    shown = ascii(value.replace("\r", "\n"))[1:-1][:40]  # Jinja knows one kind of line break
    assert shown in lines[0] or not value.isascii()
    assert any(remedy in lines[0] for remedy in REMEDIES)
    assert sorted(output.parents[2].rglob("*")) == before
    assert not Path("/evil").exists()


def test_all_faults_come_in_one_message(template: Path, user_config: Path, output: Path) -> None:
    answers = [
        "project_name=",
        "project_slug=../../evil",
        "package_name=json",
        "author=",
        "ci=none",
    ]
    tool = str(Path(sys.executable).with_name("cookiecutter"))
    result = subprocess.run(
        [
            tool,
            str(template),
            "--config-file",
            str(user_config),
            "--no-input",
            "-o",
            output,
            *answers,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    for option in ("project_name", "project_slug", "package_name", "author"):
        assert result.stderr.count(f"  - {option}=") == 1
    assert "4 answers have to change" in result.stderr
    assert not list(output.parents[1].rglob("*evil*"))


def test_a_name_that_makes_a_bad_slug_is_refused_where_it_was_derived(
    template: Path, user_config: Path, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The name itself is fine; what follows from it has to be answered by hand."""
    with pytest.raises(FailedHookException):
        cookiecutter(
            str(template),
            no_input=True,
            extra_context={"project_name": "🎉"},
            output_dir=str(output),
            config_file=str(user_config),
        )
    assert "project_slug='' is not a plain name" in capfd.readouterr().err
    assert not list(output.iterdir())


def test_a_replay_cannot_smuggle_in_what_no_question_offers(
    template: Path, user_config: Path, output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    context = json.loads((ROOT / "cookiecutter.json").read_text())
    answers = {name: v[0] if isinstance(v, list) else v for name, v in context.items()}
    answers |= {"project_name": "Fine", "project_slug": "fine", "package_name": "fine"}
    answers |= {"author": ["Ada"], "database": "oracle", "__project_dir": "elsewhere"}
    answers |= {name: v for name, v in context.items() if name.startswith("_") and name[1] != "_"}
    replay = output.parent / "replay.json"
    replay.write_text(json.dumps({"cookiecutter": answers}))
    with pytest.raises(FailedHookException):
        cookiecutter(
            str(template), replay=str(replay), output_dir=str(output), config_file=str(user_config)
        )
    message = capfd.readouterr().err
    assert "author=['Ada'] is not text" in message
    assert "database='oracle' is not on offer; choose sqlite, postgresql, mysql" in message
    assert "project_slug='fine' does not name the folder 'elsewhere'" in message
    assert not list(output.iterdir())
