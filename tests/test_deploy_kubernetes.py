"""The Kubernetes manifests are valid, restricted, and agree with the service and each other."""

from __future__ import annotations

import copy
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.conftest import Bake
from tests.deploy_facts import settings_of

Manifest = dict[str, Any]

DATABASES = ["sqlite", "postgresql", "mysql"]
SHARED = {"configmap", "deployment", "kustomization", "networkpolicy", "secret.example", "service"}
FILES = {
    "sqlite": SHARED | {"persistentvolumeclaim"},
    "postgresql": SHARED | {"migration", "poddisruptionbudget"},
    "mysql": SHARED | {"migration", "poddisruptionbudget"},
}
WRITABLE = {"/tmp", "/app/var"}


def _manifests(project: Path) -> dict[str, Manifest]:
    folder = project / "deploy" / "kubernetes"
    return {p.name.removesuffix(".yaml"): yaml.safe_load(p.read_text()) for p in folder.iterdir()}


def _pods(manifests: dict[str, Manifest]) -> Iterator[Manifest]:
    for name in ("deployment", "migration"):
        if name in manifests:
            yield manifests[name]["spec"]["template"]["spec"]


def _containers(manifests: dict[str, Manifest]) -> Iterator[Manifest]:
    for pod in _pods(manifests):
        yield from pod.get("initContainers", [])
        yield from pod["containers"]


def _web(manifests: dict[str, Manifest]) -> Manifest:
    (container,) = manifests["deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _cpus(quantity: str) -> float:
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


@pytest.fixture(scope="session", params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def project(bake: Bake, database: str) -> Path:
    return bake(database=database, deploy="kubernetes")


@pytest.fixture
def manifests(project: Path) -> dict[str, Manifest]:
    return _manifests(project)


def test_a_database_brings_its_own_manifests(manifests: dict[str, Manifest], database: str) -> None:
    assert set(manifests) == FILES[database]


@pytest.mark.parametrize("version", ["1.32", kubernetes_validate.latest_version()])
def test_the_api_server_would_accept_every_field(
    manifests: dict[str, Manifest], version: str
) -> None:
    for name, manifest in manifests.items():
        if name != "kustomization":
            kubernetes_validate.validate(manifest, version, strict=True)


def test_kustomization_lists_everything_but_the_secret(manifests: dict[str, Manifest]) -> None:
    listed = manifests["kustomization"]["resources"]
    assert {name.removesuffix(".yaml") for name in listed} == {*manifests} - {
        "kustomization",
        "secret.example",
    }
    assert len(listed) == len(set(listed))


def test_kustomization_names_the_release_of_every_image(manifests: dict[str, Manifest]) -> None:
    (image,) = manifests["kustomization"]["images"]
    assert {container["image"] for container in _containers(manifests)} == {image["name"]}
    assert image["newTag"] != "latest"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
def test_kustomize_builds_them(project: Path, manifests: dict[str, Manifest]) -> None:
    folder = project / "deploy" / "kubernetes"
    command = ["kubectl", "kustomize", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    documents = list(yaml.safe_load_all(built.stdout))
    assert len(documents) == len(manifests["kustomization"]["resources"])
    (image,) = manifests["kustomization"]["images"]
    assert set(re.findall(r"image: (\S+)", built.stdout)) == {f"{image['name']}:{image['newTag']}"}


def test_names_and_labels_are_text_whatever_the_service_is_called(bake: Bake) -> None:
    """`null` or `123` would be no name in YAML without its quotes."""
    project = bake(project_name="Null", package_name="null_service", deploy="kubernetes")
    for manifest in _manifests(project).values():
        metadata = manifest.get("metadata", {"name": "null", "labels": {}})
        assert metadata["name"] == "null"
        assert all(isinstance(value, str) for value in metadata["labels"].values())


def test_pods_meet_the_restricted_standard(manifests: dict[str, Manifest]) -> None:
    for pod in _pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all({"emptyDir", "persistentVolumeClaim"} & v.keys() for v in pod["volumes"])
    for container in _containers(manifests):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_pods_run_as_the_user_of_the_image(project: Path, manifests: dict[str, Manifest]) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (project / "Dockerfile").read_text("utf-8"), re.M)
    assert user
    uid, gid = map(int, user.groups())
    for pod in _pods(manifests):
        context = pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == (uid, gid)
        assert context.get("fsGroup", gid) == gid


def test_containers_can_write_to_tmp_and_the_data_alone(manifests: dict[str, Manifest]) -> None:
    for container in _containers(manifests):
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert "/tmp" in mounts
        assert mounts <= WRITABLE


def test_every_container_has_a_limit_for_cpu_and_memory(manifests: dict[str, Manifest]) -> None:
    for container in _containers(manifests):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests.keys() == limits.keys() == {"cpu", "memory"}
        assert requests["memory"] == limits["memory"], "memory cannot be taken back"
        assert _cpus(requests["cpu"]) <= _cpus(limits["cpu"])


def test_there_is_a_worker_for_each_core_of_the_limit(manifests: dict[str, Manifest]) -> None:
    limit = _cpus(_web(manifests)["resources"]["limits"]["cpu"])
    assert int(manifests["configmap"]["data"]["WORKERS"]) == math.ceil(limit)


def test_every_variable_is_a_setting(project: Path, manifests: dict[str, Manifest]) -> None:
    names = set(manifests["configmap"]["data"]) | set(manifests["secret.example"]["stringData"])
    for container in _containers(manifests):
        names |= {entry["name"] for entry in container["env"]}
    assert names <= settings_of(project)


def test_values_in_the_config_map_are_text(manifests: dict[str, Manifest]) -> None:
    assert all(isinstance(value, str) for value in manifests["configmap"]["data"].values())


def test_migrations_see_the_settings_of_the_service(manifests: dict[str, Manifest]) -> None:
    containers = list(_containers(manifests))
    assert {container["name"] for container in containers} == {"web", "migrate"}
    assert all(container["env"] == containers[0]["env"] for container in containers)
    assert all(container["envFrom"] == containers[0]["envFrom"] for container in containers)
    (source,) = containers[0]["envFrom"]
    assert source == {"configMapRef": {"name": manifests["configmap"]["metadata"]["name"]}}
    (migrate,) = (container for container in containers if container["name"] == "migrate")
    assert migrate["command"] == ["alembic", "upgrade", "head"]


def test_secrets_come_from_the_secret_and_have_no_value_here(
    manifests: dict[str, Manifest], database: str
) -> None:
    secret = manifests["secret.example"]
    expected = {"ADMIN_TOKEN"} | ({"DATABASE_URL"} if database != "sqlite" else set())
    assert secret["stringData"] == dict.fromkeys(expected, "")
    for container in _containers(manifests):
        for entry in container["env"]:
            reference = {"name": secret["metadata"]["name"], "key": entry["name"]}
            assert entry == {"name": entry["name"], "valueFrom": {"secretKeyRef": reference}}
        assert {entry["name"] for entry in container["env"]} == expected
    assert not expected & manifests["configmap"]["data"].keys()


def test_an_admin_address_that_others_reach_has_a_token(manifests: dict[str, Manifest]) -> None:
    assert manifests["configmap"]["data"]["ADMIN_BIND"].startswith("0.0.0.0:")
    assert "ADMIN_TOKEN" in {entry["name"] for entry in _web(manifests)["env"]}


def test_ports_are_those_of_the_settings(manifests: dict[str, Manifest]) -> None:
    data = manifests["configmap"]["data"]
    ports = {port["name"]: port["containerPort"] for port in _web(manifests)["ports"]}
    assert ports == {
        "http": int(data["BIND"].rpartition(":")[2]),
        "admin": int(data["ADMIN_BIND"].rpartition(":")[2]),
    }


def test_probes_ask_the_admin_address(manifests: dict[str, Manifest]) -> None:
    web = _web(manifests)
    paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        assert web[probe]["httpGet"] == {"path": path, "port": "admin"}


def test_the_pod_has_time_for_its_own_graceful_stop(manifests: dict[str, Manifest]) -> None:
    pod = manifests["deployment"]["spec"]["template"]["spec"]
    data = manifests["configmap"]["data"]
    pre_stop = _web(manifests)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pre_stop + float(data["GRACEFUL_TIMEOUT"])
    assert float(data["GRACEFUL_TIMEOUT"]) > float(data["DRAIN_DELAY"])


def test_selectors_find_the_pods_of_the_service_and_no_others(
    manifests: dict[str, Manifest],
) -> None:
    spec = manifests["deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    selectors = [spec["selector"]["matchLabels"], manifests["service"]["spec"]["selector"]]
    selectors.append(manifests["networkpolicy"]["spec"]["podSelector"]["matchLabels"])
    if "poddisruptionbudget" in manifests:
        selectors.append(manifests["poddisruptionbudget"]["spec"]["selector"]["matchLabels"])
    constraints = spec["template"]["spec"].get("topologySpreadConstraints", [])
    selectors += [constraint["labelSelector"]["matchLabels"] for constraint in constraints]
    assert all(selector == labels for selector in selectors)
    if "migration" in manifests:
        other = manifests["migration"]["spec"]["template"]["metadata"]["labels"]
        assert not labels.items() <= other.items()


def test_the_service_offers_the_public_address_alone(manifests: dict[str, Manifest]) -> None:
    (port,) = manifests["service"]["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_the_admin_address_is_open_to_monitoring_alone(manifests: dict[str, Manifest]) -> None:
    rules = manifests["networkpolicy"]["spec"]["ingress"]
    by_port = {port["port"]: rule.get("from") for rule in rules for port in rule["ports"]}
    assert by_port.keys() == {"http", "admin"}
    assert by_port["admin"], "an empty list would let everyone in"


def test_a_server_database_allows_updates_without_a_gap(bake: Bake) -> None:
    for database in ("postgresql", "mysql"):
        manifests = _manifests(bake(database=database, deploy="kubernetes"))
        spec = manifests["deployment"]["spec"]
        assert spec["replicas"] >= 2
        assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        assert spec["template"]["spec"]["topologySpreadConstraints"]
        assert manifests["poddisruptionbudget"]["spec"]["maxUnavailable"] == 1


def test_a_file_database_has_one_pod_at_a_time_and_its_own_disk(bake: Bake) -> None:
    manifests = _manifests(bake(database="sqlite", deploy="kubernetes"))
    spec = manifests["deployment"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    pod = spec["template"]["spec"]
    claim = {"claimName": manifests["persistentvolumeclaim"]["metadata"]["name"]}
    assert {"name": "data", "persistentVolumeClaim": claim} in pod["volumes"]
    for container in _containers(manifests):
        assert {"name": "data", "mountPath": "/app/var"} in container["volumeMounts"]


def test_the_two_server_databases_have_the_same_manifests(bake: Bake) -> None:
    first, second = (_manifests(bake(database=d, deploy="kubernetes")) for d in DATABASES[1:])
    assert first == second


def test_the_two_deployments_differ_only_where_a_file_does_from_a_server(bake: Bake) -> None:
    """They are whole files, so nothing else keeps what they share the same."""
    seen = []
    for database in ("sqlite", "postgresql"):
        manifest = copy.deepcopy(_manifests(bake(database=database, deploy="kubernetes")))
        deployment = manifest["deployment"]
        pod = deployment["spec"]["template"]["spec"]
        (web,) = pod["containers"]
        for key in ("replicas", "strategy"):
            del deployment["spec"][key]
        for key in ("initContainers", "topologySpreadConstraints"):
            pod.pop(key, None)
        pod["securityContext"].pop("fsGroup", None)
        pod["volumes"] = [v for v in pod["volumes"] if v["name"] != "data"]
        web["volumeMounts"] = [m for m in web["volumeMounts"] if m["name"] != "data"]
        web["env"] = [e for e in web["env"] if e["name"] != "DATABASE_URL"]
        seen.append(deployment)
    assert seen[0] == seen[1]
