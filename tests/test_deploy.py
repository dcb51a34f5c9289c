"""The Dockerfile and compose.yaml are valid, and agree with the service and each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Bake
from tests.deploy_facts import passes, settings_of

DATABASES = ["sqlite", "postgresql", "mysql"]
FILES = {
    "docker": {"Dockerfile", ".dockerignore", "compose.yaml"},
    "kubernetes": {"Dockerfile", ".dockerignore"},
    "none": set(),
}
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")


def _dockerfile(project: Path, instruction: str) -> list[str]:
    """The arguments of each such instruction, in order."""
    text = re.sub(r"^\s*#.*\n", "", (project / "Dockerfile").read_text("utf-8"), flags=re.M)
    return re.findall(rf"^{instruction} +(.*)$", text.replace("\\\n", ""), re.MULTILINE)


def _seconds(duration: str) -> int:
    count, unit = int(duration[:-1]), duration[-1]
    return count * {"s": 1, "m": 60}[unit]


@pytest.fixture(scope="session", params=DATABASES)
def project(bake: Bake, request: pytest.FixtureRequest) -> Path:
    return bake(database=request.param, deploy="docker")


@pytest.fixture
def compose(project: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((project / "compose.yaml").read_text("utf-8"))
    return content


@pytest.mark.parametrize("deploy", FILES)
def test_an_option_brings_its_own_files_and_no_others(bake: Bake, deploy: str) -> None:
    project = bake(deploy=deploy)
    candidates = set().union(*FILES.values())
    assert {name for name in candidates if (project / name).is_file()} == FILES[deploy]
    files = {path for path in (project / "deploy").rglob("*") if path.is_file()}
    manifests = {path for path in files if path.parent.name == "kubernetes"}
    assert bool(manifests) == (deploy == "kubernetes")
    # Profiles are for every service, wherever it runs.
    assert {path.name for path in files - manifests} == {"config.alloy", "parca.yaml"}


def test_docker_and_kubernetes_share_one_dockerfile(bake: Bake) -> None:
    for name in ("Dockerfile", ".dockerignore"):
        files = (bake(deploy=deploy) / name for deploy in ("docker", "kubernetes"))
        assert len({file.read_bytes() for file in files}) == 1


def test_a_linter_finds_nothing_in_the_dockerfile(project: Path) -> None:
    passes("hadolint", "--failure-threshold=style", project / "Dockerfile")


def test_the_image_starts_from_one_base_of_a_pinned_minor_version(project: Path) -> None:
    base, *stages = _dockerfile(project, "FROM")
    assert re.fullmatch(r"python:3\.\d+-slim AS base", base)
    assert stages == ["base AS build", "base"]


def test_every_wheel_is_checked_against_the_lock_file_of_the_database(project: Path) -> None:
    source, target = _dockerfile(project, "COPY")[0].split()
    (install,) = (run for run in _dockerfile(project, "RUN") if " install " in run and "pip" in run)
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    assert f"--requirement {target}" in install
    lock = (project / source).read_text("utf-8")
    assert "--hash=sha256:" in lock
    drivers = {name for name in ("psycopg", "pymysql") if re.search(rf"^{name}==", lock, re.M)}
    database = yaml.safe_load((project / "compose.yaml").read_text("utf-8"))["services"]
    image = database.get("database", {}).get("image", "").partition(":")[0]
    assert drivers == {"postgres": {"psycopg"}, "mariadb": {"pymysql"}}.get(image, set())


def test_the_image_runs_as_a_number_that_is_not_root(project: Path) -> None:
    (user,) = _dockerfile(project, "USER")
    uid, gid = user.split(":")
    assert uid.isdigit()
    assert int(uid) > 0
    runs = "\n".join(_dockerfile(project, "RUN"))
    assert f"--uid {uid} --gid {gid}" in runs
    assert f"--owner={uid} --group={gid} var" in runs


def test_variables_of_the_image_are_settings_or_pythons_own(project: Path) -> None:
    (environment,) = _dockerfile(project, "ENV")
    names = {part.partition("=")[0] for part in environment.split()}
    assert {n for n in names if n != "PATH" and not n.startswith("PYTHON")} == {"BIND"}
    assert "BIND" in settings_of(project)


def test_what_is_copied_is_what_dockerignore_lets_through(project: Path) -> None:
    lines = (project / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything is shut out first"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copies = [copy.split() for copy in _dockerfile(project, "COPY")]
    sources = {s for *words, _ in copies if "--from=build" not in words for s in words}
    assert {source.partition("/")[0] for source in sources} == allowed
    assert all((project / source).exists() for source in sources)


def test_compose_matches_the_specification(project: Path) -> None:
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", project / "compose.yaml")


def test_compose_itself_reads_its_file_and_insists_on_the_password(project: Path) -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not installed here")
    file = project / "compose.yaml"
    command = [compose, "--file", str(file), "config", "--quiet"]
    complete = {"DATABASE_PASSWORD": "x"} if "${" in file.read_text("utf-8") else {}
    subprocess.run(command, check=True, env=complete)
    if complete:
        run = subprocess.run(command, capture_output=True, text=True, check=False, env={})
        assert run.returncode != 0
        assert "DATABASE_PASSWORD" in run.stderr


def test_no_secret_has_a_default(project: Path, compose: dict[str, Any]) -> None:
    text = (project / "compose.yaml").read_text("utf-8")
    assert text.count("${") == len(REQUIRED.findall(text)), "every variable must be set"
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            if re.search("PASSWORD$|TOKEN|SECRET|URL", name) and value != "yes":
                assert REQUIRED.search(value), f"{name} is written down"
            assert "PASSWORD" not in name or REQUIRED.fullmatch(value) or value == "yes"


def test_only_the_public_address_is_published_and_only_to_this_machine(
    compose: dict[str, Any],
) -> None:
    published = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}
    assert published == {"web": ["127.0.0.1:8000:8000"]}
    assert "ADMIN_BIND" not in compose["services"]["web"]["environment"], "stays on loopback"


def test_the_published_port_is_the_one_that_the_image_listens_on(project: Path) -> None:
    (environment,) = _dockerfile(project, "ENV")
    assert "BIND=0.0.0.0:8000" in environment.split()
    assert _dockerfile(project, "EXPOSE") == ["8000"]


def test_the_service_waits_for_its_database_and_its_migrations(
    project: Path, compose: dict[str, Any]
) -> None:
    services = compose["services"]
    assert services["migrate"]["command"] == ["alembic", "upgrade", "head"]
    assert services["migrate"]["restart"] == "no"
    waits = {name: s["condition"] for name, s in services["web"]["depends_on"].items()}
    assert waits.pop("migrate") == "service_completed_successfully"
    if "database" in services:
        healthy = {"database": "service_healthy"}
        assert waits == healthy
        assert {n: s["condition"] for n, s in services["migrate"]["depends_on"].items()} == healthy
        assert services["database"]["healthcheck"]["test"][0] == "CMD"
    else:
        assert not waits
        assert services["migrate"]["volumes"] == services["web"]["volumes"] == ["data:/app/var"]
    assert _dockerfile(project, "HEALTHCHECK"), "the service's own comes with the image"


def test_the_service_and_its_migrations_differ_in_nothing_that_matters(
    compose: dict[str, Any],
) -> None:
    web, migrate = compose["services"]["web"], compose["services"]["migrate"]
    for key in ("build", "environment", "read_only", "tmpfs", "cap_drop", "security_opt"):
        assert web[key] == migrate[key]


def test_compose_sets_nothing_but_settings(project: Path, compose: dict[str, Any]) -> None:
    assert set(compose["services"]["web"]["environment"]) <= settings_of(project)


def test_docker_waits_longer_than_gunicorn(compose: dict[str, Any]) -> None:
    web = compose["services"]["web"]
    assert _seconds(web["stop_grace_period"]) > float(web["environment"]["GRACEFUL_TIMEOUT"])


def test_containers_can_write_to_tmp_and_the_data_alone(compose: dict[str, Any]) -> None:
    web = compose["services"]["web"]
    assert web["read_only"] is True
    assert web["tmpfs"] == ["/tmp"]
    assert {volume.partition(":")[2] for volume in web.get("volumes", [])} <= {"/app/var"}
    assert web["cap_drop"] == ["ALL"]
    assert web["security_opt"] == ["no-new-privileges:true"]


def test_data_outlives_its_container(compose: dict[str, Any]) -> None:
    volumes = {v for s in compose["services"].values() for v in s.get("volumes", [])}
    assert {volume.partition(":")[0] for volume in volumes} == set(compose["volumes"]) == {"data"}
