"""The pipelines are valid, ask for little, and run exactly what a developer runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Bake
from tests.deploy_facts import passes

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
MAKE = ["make install", "make lint", "make test"]


def _read(path: Path) -> dict[str, Any]:
    # BaseLoader: every scalar stays text, so that the key `on` is no boolean.
    content: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    return content


def _workflows(project: Path) -> list[Path]:
    return sorted((project / ".github" / "workflows").glob("*"))


def _jobs(project: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for workflow in _workflows(project):
        yield from _read(workflow)["jobs"].items()


def _step(job: dict[str, Any], action: str) -> dict[str, Any]:
    (step,) = (s for s in job["steps"] if s.get("uses", "").startswith(f"{action}@"))
    return dict(step)


def _gitlab_jobs(project: Path) -> dict[str, dict[str, Any]]:
    pipeline = _read(project / ".gitlab-ci.yml")
    return {name: job for name, job in pipeline.items() if "script" in job}


@pytest.fixture(scope="session")
def github(bake: Bake) -> Path:
    return bake(ci="github", deploy="docker")


@pytest.fixture(scope="session")
def gitlab(bake: Bake) -> Path:
    return bake(ci="gitlab", deploy="docker")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ci": "github", "deploy": "docker"}, {"ci.yml", "image.yml", "dependabot.yml"}),
        ({"ci": "github", "deploy": "kubernetes"}, {"ci.yml", "image.yml", "dependabot.yml"}),
        ({"ci": "github", "deploy": "none"}, {"ci.yml", "dependabot.yml"}),
        ({"ci": "gitlab", "deploy": "docker"}, {".gitlab-ci.yml"}),
        ({"ci": "gitlab", "deploy": "none"}, {".gitlab-ci.yml"}),
        ({"ci": "none", "deploy": "docker"}, set()),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_an_option_brings_its_own_files_and_no_others(
    bake: Bake, options: dict[str, str], expected: set[str]
) -> None:
    project = bake(**options)
    present = {path.name for path in (project / ".github").rglob("*") if path.is_file()}
    present |= {path.name for path in project.glob(".gitlab-ci*")}
    assert present == expected


def test_workflows_match_githubs_schema(github: Path) -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *_workflows(github))


def test_dependabot_matches_its_schema(github: Path) -> None:
    file = github / ".github" / "dependabot.yml"
    passes("check-jsonschema", "--builtin-schema", "vendor.dependabot", file)


def test_the_gitlab_pipeline_matches_its_schema(gitlab: Path) -> None:
    file = gitlab / ".gitlab-ci.yml"
    passes(
        "check-jsonschema",
        *("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"),
        file,
    )


def test_a_security_audit_of_the_workflows_finds_nothing(github: Path) -> None:
    passes("zizmor", "--offline", "--persona=pedantic", "--quiet", "--collect=all", github)


def test_actions_are_pinned_to_a_commit_and_say_which_release_it_is(github: Path) -> None:
    for workflow in _workflows(github):
        for line in re.findall(r"^.*\buses:.*$", workflow.read_text("utf-8"), re.MULTILINE):
            assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_one_release_of_an_action_serves_all_workflows(github: Path) -> None:
    used = {
        tuple(step["uses"].split("@"))
        for _, job in _jobs(github)
        for step in job["steps"]
        if "uses" in step
    }
    assert len(used) == len({action for action, _ in used})


def test_workflows_may_read_the_repository_and_nothing_else(github: Path) -> None:
    for path in _workflows(github):
        assert _read(path)["permissions"] == {"contents": "read"}
        assert "secrets" not in path.read_text("utf-8")
    assert all("permissions" not in job for _, job in _jobs(github))


def test_no_job_leaves_the_tokens_of_its_checkout_behind(github: Path) -> None:
    for name, job in _jobs(github):
        checkout = _step(job, "actions/checkout")
        assert checkout["with"]["persist-credentials"] == "false", name


def test_every_job_has_a_time_limit(github: Path, gitlab: Path) -> None:
    assert all(0 < int(job["timeout-minutes"]) <= 30 for _, job in _jobs(github))
    assert all(job["timeout"] == "20 minutes" for job in _gitlab_jobs(gitlab).values())


def test_a_newer_push_cancels_what_it_supersedes(github: Path, gitlab: Path) -> None:
    for path in _workflows(github):
        concurrency = _read(path)["concurrency"]
        assert concurrency["cancel-in-progress"] == "true"
        assert "pull_request.number || github.run_id" in concurrency["group"]
    assert _read(gitlab / ".gitlab-ci.yml")["workflow"]["auto_cancel"]
    assert all(job["interruptible"] == "true" for job in _gitlab_jobs(gitlab).values())


def test_both_pipelines_run_the_make_targets_on_every_python(github: Path, gitlab: Path) -> None:
    job = dict(_jobs(github))["test"]
    assert job["strategy"]["matrix"] == {"python": PYTHONS}
    assert _step(job, "actions/setup-python")["with"]["python-version"] == "${{ matrix.python }}"
    assert [step["run"] for step in job["steps"] if "run" in step] == MAKE
    job = _gitlab_jobs(gitlab)["test"]
    assert job["parallel"]["matrix"] == [{"SERIES": PYTHONS}]
    assert job["image"] == "python:$SERIES"
    assert job["script"] == MAKE


def test_the_oldest_python_tested_is_the_oldest_allowed(github: Path) -> None:
    project = tomllib.loads((github / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == f">={PYTHONS[0]}"


def test_the_make_targets_exist(github: Path) -> None:
    makefile = (github / "Makefile").read_text("utf-8")
    for command in MAKE:
        assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.MULTILINE), command


def test_no_variable_of_a_pipeline_changes_the_makefiles_own(github: Path, gitlab: Path) -> None:
    """`NAME ?= value` in the Makefile gives way to the environment."""
    overridable = set(re.findall(r"^(\w+) *\?=", (gitlab / "Makefile").read_text("utf-8"), re.M))
    exported = {"CI"}
    for job in _gitlab_jobs(gitlab).values():
        exported |= set(job.get("variables", {}))
        for row in job.get("parallel", {}).get("matrix", []):
            exported |= set(row)
    assert not overridable & exported
    assert all("env" not in job for _, job in _jobs(github))


def test_the_cache_of_packages_follows_the_lock_file(github: Path, gitlab: Path) -> None:
    setup = _step(dict(_jobs(github))["test"], "actions/setup-python")
    assert setup["with"]["cache"] == "pip"
    assert setup["with"]["cache-dependency-path"] == "requirements/dev.txt"
    job = _gitlab_jobs(gitlab)["test"]
    assert job["cache"]["key"]["files"] == ["requirements/dev.txt"]
    assert job["variables"]["PIP_CACHE_DIR"] == f"$CI_PROJECT_DIR/{job['cache']['paths'][0]}"
    assert (github / "requirements" / "dev.txt").is_file()


def test_the_image_is_built_and_never_pushed(github: Path, gitlab: Path) -> None:
    built = [step["run"] for step in dict(_jobs(github))["build"]["steps"] if "run" in step]
    assert built == ["docker build ."]
    job = _gitlab_jobs(gitlab)["build-image"]
    assert job["script"] == built
    assert job["rules"] == [{"exists": ["Dockerfile"]}]
    client, (server,) = job["image"], job["services"]
    assert server == f"{client}-dind"
