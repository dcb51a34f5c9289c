"""The folders are the architecture: imports point down only, and the kit knows no owner."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
KIT = SOURCE / "threadkit"
(OWNER,) = [p for p in SOURCE.iterdir() if (p / "app.py").is_file()]

# Who may import whom: a room sees the floors below its own, never a neighbour.
KIT_FLOORS = [
    {"extension"},
    {"admin", "web", "jobs", "server"},
    {"database", "clients", "observability", "profiling"},
    {"runtime", "listeners", "peers", "tasks"},
    {"ledger"},
    {"concurrency", "settings"},
    {"arrival", "context", "database_url", "errors", "hosts", "ladder", "limits"}
    | {"machine", "misspelt"},
]
OWNER_FLOORS = [{"wsgi"}, {"app"}, {"handlers"}, {"services"}, {"models"}, {"settings"}]
# What an owner's users import to test with; it stands beside the floors and nobody needs it.
KIT_ASIDE = {"testing"}


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imported(path: Path, package: Path) -> Iterator[str]:
    """Absolute dotted names of what a module imports, of all kinds of import."""
    own = [package.name, *path.relative_to(package).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


def room(parts: list[str]) -> str:
    return parts[1] if len(parts) > 1 else ""


def floor_of(name: str, floors: list[set[str]]) -> int | None:
    return next((number for number, rooms in enumerate(floors) if name in rooms), None)


def climbs(package: Path, floors: list[set[str]]) -> list[str]:
    """Imports that go up or sideways."""
    wrong = []
    for path in modules(package):
        here = path.relative_to(package).parts[0].removesuffix(".py")
        mine = floor_of(here, floors)
        if mine is None:
            continue
        for name in imported(path, package):
            parts = name.split(".")
            if parts[0] != package.name:
                continue
            there = room(parts)
            theirs = floor_of(there, floors)
            if there != here and theirs is not None and theirs <= mine:
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    return wrong


def test_the_kits_imports_point_down() -> None:
    assert climbs(KIT, KIT_FLOORS) == []


def test_the_owners_imports_point_down() -> None:
    assert climbs(OWNER, OWNER_FLOORS) == []


def test_every_room_of_the_kit_has_a_floor() -> None:
    rooms = {p.relative_to(KIT).parts[0].removesuffix(".py") for p in modules(KIT)} - {"__init__"}
    assert rooms <= set().union(*KIT_FLOORS) | KIT_ASIDE


def test_the_kit_never_imports_the_owner() -> None:
    wrong = [
        path
        for path in modules(KIT)
        if any(n.split(".")[0] == OWNER.name for n in imported(path, KIT))
    ]
    assert wrong == []


def test_the_owner_never_imports_itself_by_name() -> None:
    wrong = [
        f"{path.name}: {node.module}"
        for path in modules(OWNER)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and not node.level
        and (node.module or "").split(".")[0] == OWNER.name
    ]
    assert wrong == []


def test_services_and_models_know_no_flask() -> None:
    wrong = [
        path
        for folder in ("services", "models")
        for path in modules(OWNER / folder)
        if any(n.split(".")[0] in ("flask", "werkzeug") for n in imported(path, OWNER))
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["flask", "werkzeug", "sqlalchemy", "gunicorn"])
def test_the_concurrency_room_needs_only_the_standard_library_and_its_cache(package: str) -> None:
    wrong = [
        path
        for path in modules(KIT / "concurrency")
        if any(n.split(".")[0] == package for n in imported(path, KIT))
    ]
    assert wrong == []


def test_prometheus_is_only_imported_by_the_metrics() -> None:
    """Its import decides where numbers go, so it must come after the folder is named."""
    importers = {
        str(path.relative_to(KIT))
        for path in modules(KIT)
        if any(n.split(".")[0] == "prometheus_client" for n in imported(path, KIT))
    }
    assert importers <= {
        "observability/metrics.py",
        "server/metrics_folder.py",
        "server/hooks.py",
    }
