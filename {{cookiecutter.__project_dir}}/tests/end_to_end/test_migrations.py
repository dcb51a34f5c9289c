"""``make migrate`` and ``make revision`` do it safely, or say plainly why not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from threadkit.database_url import normalised

from ..servers.databases import KINDS
from ..servers.postgresql import GUARDED
from ..servers.processes import PROJECT, eventually, free_ports
from ..servers.service import Service

Start = Callable[..., Service]
NewDatabase = Callable[..., str]

TOGETHER = 4


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what Alembic needs, in which a test may write migrations."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("migrations", "src"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    shutil.copy(PROJECT / "pyproject.toml", folder)
    return folder


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server in turn."""
    return str(request.param)


def begin(url: str, *arguments: str, project: Path = PROJECT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "alembic", *(arguments or ("upgrade", "head"))],
        cwd=project,
        env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(project / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def alembic(url: str, *arguments: str, project: Path = PROJECT) -> tuple[int, str]:
    """Exit status and output; ``upgrade head``, which is ``make migrate``, unless said."""
    process = begin(url, *arguments, project=project)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def execute(url: str, *statements: str) -> list[str]:
    engine = create_engine(normalised(url), poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(text(statement))
        return [str(row[0]) for row in result] if result.returns_rows else []


def write_migration(project: Path, body: str) -> None:
    """A migration after the newest that is there."""
    ours = project / "migrations" / "versions" / "9000_of_the_test.py"
    newest = sorted(path for path in ours.parent.glob("*.py") if path != ours)[-1].read_text()
    parent = next(line for line in newest.splitlines() if line.startswith("revision ="))
    ours.write_text(
        "from alembic import op\nimport sqlalchemy as sa\n"
        f"revision = 'of_the_test'\ndown_{parent}\n"
        f"def upgrade() -> None:\n    print('MIGRATING', flush=True)\n    {body}\n"
        "def downgrade() -> None:\n    pass\n"
    )


@pytest.mark.parametrize(("scheme", "module"), [("postgresql", "psycopg"), ("mysql", "pymysql")])
def test_a_server_that_is_away_is_a_sentence(scheme: str, module: str) -> None:
    pytest.importorskip(module)
    (nobody,) = free_ports(1)
    status, output = alembic(f"{scheme}://me:hush@127.0.0.1:{nobody}/name")
    assert status == 1
    assert "the database is away" in output
    assert "DATABASE_URL" in output
    assert "Traceback" not in output
    assert "hush" not in output


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_wrong_password_is_a_sentence_everywhere(
    start: Start, new_database: NewDatabase, kind: str
) -> None:
    """And a right one arrives as it is, whatever is special in it."""
    url = new_database(kind, migrated=False)
    scheme, _, rest = url.partition("://")
    place = rest.partition("@")[2]
    name = place.rpartition("/")[2]
    make, grant = {
        "postgresql": (
            f"CREATE ROLE {GUARDED} LOGIN PASSWORD 'p%40 @/:?#'",
            f'ALTER DATABASE "{name}" OWNER TO {GUARDED}',
        ),
        "mysql": (
            f"CREATE USER {GUARDED}@'127.0.0.1' IDENTIFIED BY 'p%40 @/:?#'",
            f"GRANT ALL ON {name}.* TO {GUARDED}@'127.0.0.1'",
        ),
    }[kind]
    make = make.replace(":", "\\:")
    execute(url, make, grant)
    right = f"{scheme}://{GUARDED}:p%2540%20%40%2F%3A%3F%23@{place}"
    wrong = f"{scheme}://{GUARDED}:hush@{place}"
    status, output = alembic(wrong)
    assert status == 1
    assert "does not let us in" in output
    assert GUARDED in output
    assert "Traceback" not in output
    assert alembic(right)[0] == 0
    service = start(DATABASE_URL=wrong, WORKERS="1")
    answer = service.ask("GET", "/readyz")
    assert answer.status == 503
    assert "does not let us in" in answer.json()["detail"]
    assert GUARDED not in answer.json()["detail"]  # anyone may ask
    assert GUARDED in "".join(line.get("reason", "") for line in service.records())
    items = service.ask("GET", "/v1/items")
    assert (items.status, items.json()["detail"]) == (
        503,
        "The database does not let the service in.",
    )
    assert "hush" not in output + service.stdout() + service.stderr() + str(answer.data)


def test_a_database_newer_than_the_code_stays_as_it_is_and_serves(
    start: Start, database_url: str
) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = 'newer'")
    status, output = alembic(database_url)
    assert status == 0
    assert "revision newer, which is not in migrations/" in output
    assert "Nothing was changed" in output
    assert execute(database_url, "SELECT version_num FROM alembic_version") == ["newer"]
    status, output = alembic(database_url, "revision", "--autogenerate", "-m", "x")
    assert status == 1
    assert "take the code that has this revision" in output
    service = start(DATABASE_URL=database_url, WORKERS="1")
    assert service.ask("GET", "/readyz").status == 200
    assert service.ask("GET", "/v1/items").status == 200


def test_a_revision_without_a_change_is_refused(project: Path, new_database: NewDatabase) -> None:
    url = new_database("sqlite")
    before = sorted((project / "migrations" / "versions").iterdir())
    status, output = alembic(url, "revision", "--autogenerate", "-m", "nothing", project=project)
    assert status == 1
    assert "the models and the database agree" in output
    assert sorted((project / "migrations" / "versions").iterdir()) == before


def test_models_and_migrations_agree_on_every_server(database_url: str) -> None:
    status, output = alembic(database_url, "check")
    assert status == 0, output


def test_instances_that_start_together_migrate_one_after_another(
    project: Path, new_database: NewDatabase, kind: str
) -> None:
    """Each would make the same tables; who comes second must see that they are there."""
    url = new_database(kind, migrated=False)
    write_migration(project, "op.create_table('once', sa.Column('id', sa.Integer))")
    processes = [begin(url, project=project) for _ in range(TOGETHER)]
    ended = [(p.communicate(timeout=60)[0], p.returncode) for p in processes]
    assert [status for _, status in ended] == [0] * TOGETHER, ended
    assert sum("MIGRATING" in output for output, _ in ended) == 1
    assert execute(url, "SELECT count(*) FROM once") == ["0"]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_migration_gives_up_where_a_table_is_in_use(
    project: Path, new_database: NewDatabase, kind: str
) -> None:
    url = new_database(kind)
    write_migration(project, "op.add_column('items', sa.Column('extra', sa.Integer))")
    patience = project / "src" / "threadkit" / "database" / "migrations.py"
    patience.write_text(patience.read_text().replace("LOCK_TIMEOUT = 5", "LOCK_TIMEOUT = 1"))
    engine = create_engine(normalised(url), poolclass=NullPool)
    with engine.connect() as user:
        user.execute(text("SELECT * FROM items"))
        status, output = alembic(url, project=project)
        user.rollback()
    assert status == 1
    assert "was in use for longer than the 1 s" in output
    assert "Traceback" not in output
    assert alembic(url, project=project)[0] == 0


def test_a_migration_that_is_killed_leaves_the_lock_to_the_next(
    project: Path, new_database: NewDatabase, kind: str
) -> None:
    url = new_database(kind)
    write_migration(project, "__import__('time').sleep(60)")
    process = begin(url, project=project)
    assert process.stdout
    eventually(
        lambda: process.stdout and "MIGRATING" in process.stdout.readline(), what="it migrates"
    )
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    write_migration(project, "op.create_table('once', sa.Column('id', sa.Integer))")
    assert alembic(url, project=project)[0] == 0


def test_a_copied_table_on_sqlite_keeps_the_rows_that_refer_to_it(
    project: Path, new_database: NewDatabase
) -> None:
    """Alembic copies a table to alter it; dropping the old one must not cascade."""
    url = new_database("sqlite")
    execute(
        url,
        "INSERT INTO items (id, name, price_cents, version) VALUES (1, 'tea', 1, 1)",
        "CREATE TABLE notes (item_id INTEGER REFERENCES items (id) ON DELETE CASCADE)",
        "INSERT INTO notes VALUES (1)",
    )
    write_migration(
        project,
        "with op.batch_alter_table('items', recreate='always') as batch:\n"
        "        batch.add_column(sa.Column('extra', sa.Integer))",
    )
    status, output = alembic(url, project=project)
    assert status == 0, output
    assert execute(url, "SELECT count(*) FROM notes") == ["1"]


def test_an_index_is_made_concurrently_on_postgresql(project: Path, postgresql_url: str) -> None:
    """Outside a transaction, while the lock is held all the same."""
    write_migration(
        project,
        "with op.get_context().autocommit_block():\n"
        "        op.create_index('by_price', 'items', ['price_cents'],"
        " postgresql_concurrently=True)",
    )
    status, output = alembic(postgresql_url, project=project)
    assert status == 0, output
