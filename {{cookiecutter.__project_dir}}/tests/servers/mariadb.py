"""A real MariaDB of the tests' own, where the machine has one installed."""

from __future__ import annotations

from pathlib import Path

from .own import OwnServer
from .processes import find_program


class MariaDB(OwnServer):
    """Listens on 127.0.0.1 alone, with one user that needs no password."""

    name = "MariaDB"
    user = "mysql"

    def __init__(self, server: Path, install: Path) -> None:
        self._server, self._install = server, install
        super().__init__()

    @staticmethod
    def find() -> tuple[Path, Path] | None:
        """The server and what makes its data folder."""
        places = (Path("/usr/sbin"), Path("/usr/bin"))
        server = find_program("mariadbd", *places)
        install = find_program("mariadb-install-db", *places)
        return (server, install) if server and install else None

    def _start(self) -> None:
        folder = self._unprivileged.folder
        data = self._unprivileged.make("data")
        self._unprivileged.run(
            self._install,
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )
        (folder / "init.sql").write_text(
            "CREATE USER tester@'127.0.0.1';\nGRANT ALL ON *.* TO tester@'127.0.0.1' "
            "WITH GRANT OPTION;\n"
        )
        self.process = self._unprivileged.start(
            self._server,
            "--no-defaults",
            f"--datadir={data}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--init-file={folder / 'init.sql'}",
            "--innodb-flush-log-at-trx-commit=0",
            "--max-connections=200",
        )

    def _answers(self) -> bool:
        import pymysql

        try:
            self.execute("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True

    def create(self, name: str, *, like: str | None = None) -> str:
        """A new database; a copy has the tables and rows of ``like``, and its keys."""
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        if like is not None:
            for table in self.execute(f"SHOW TABLES FROM `{like}`"):
                self.execute(f"CREATE TABLE `{name}`.`{table}` LIKE `{like}`.`{table}`")
                self.execute(f"INSERT INTO `{name}`.`{table}` SELECT * FROM `{like}`.`{table}`")
        return f"mysql://tester@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> list[str]:
        """Run one statement; the first column of what it answers."""
        import pymysql

        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user="tester", autocommit=True
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return [str(row[0]) for row in cursor.fetchall()]
        finally:
            connection.close()
