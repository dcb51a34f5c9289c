"""Claims about the room as a whole: its imports, its import time, its names, its fixture."""

from __future__ import annotations

import ast
import contextvars
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from threadkit import concurrency, testing
from threadkit.concurrency import fresh_context, register_context_variable
from threadkit.concurrency.registry import kinds

ROOM = Path(concurrency.__file__).parent


def test_only_the_standard_library_and_cachebox_are_imported() -> None:
    allowed = sys.stdlib_module_names | {"cachebox", "__future__"}
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                assert not isinstance(node, ast.ImportFrom) or node.level == 1, path
                continue
            assert all(name.split(".")[0] in allowed for name in names), (path, names)


def test_the_rooms_files_import_each_other_without_a_cycle() -> None:
    graph = {
        path.stem: {
            node.module or ""
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.level == 1
        }
        for path in ROOM.glob("*.py")
    }
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"a cycle among {sorted(graph)}"
        for name in leaves:
            del graph[name]


def test_importing_starts_no_thread() -> None:
    code = "import threading, threadkit.concurrency; print(threading.active_count())"
    source = str(ROOM.parent.parent)
    output = subprocess.run(
        [sys.executable, "-B", "-c", f"import sys; sys.path.insert(0, {source!r}); {code}"],
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    assert output.stdout.strip() == "1"


def test_all_is_sorted_and_complete() -> None:
    assert concurrency.__all__ == sorted(concurrency.__all__)
    assert all(hasattr(concurrency, name) for name in concurrency.__all__)


def test_a_variable_is_registered_once_and_only_set_ones_travel() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("once")
    assert register_context_variable(variable) is register_context_variable(variable)
    assert variable not in fresh_context()
    variable.set(1)
    assert fresh_context()[variable] == 1
    assert {"cache", "background"} <= set(kinds())


def test_the_fixture_sees_a_leaked_thread_and_prints_its_stack(gate: Any) -> None:
    known = set(threading.enumerate())

    def leak_here() -> None:
        gate.wait(10)

    leak = threading.Thread(target=leak_here, name="leaky")
    leak.start()
    leaked = testing.wait_for_threads(known, grace=0.01)
    assert leaked == [leak]
    report = testing.describe_threads(leaked)
    assert "leaky" in report
    assert "leak_here" in report
    gate.set()
    assert testing.wait_for_threads(known) == []
