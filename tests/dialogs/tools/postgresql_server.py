"""A PostgreSQL server of one's own, in a temporary folder, reached by a socket there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

SUPERUSER = "postgres"

_ACCESS = "local all reader scram-sha-256\nlocal all all trust\n"
_OPTIONS = "-c listen_addresses='' -c fsync=off -c shared_buffers=16MB"


class NoServer(Exception):
    """Why no server can be started here."""


class Server:
    """A running server: URLs of its databases, and statements run as its superuser.

    Args:
        folder: where its socket is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, database: str = "people", user: str = "reader:$PG_TEST_PASSWORD") -> str:
        return f"postgresql+psycopg://{user}@/{database}?host={self._folder}"

    def execute(
        self, *statements: str, database: str = "people", rows: list[dict[str, str]] | None = None
    ) -> None:
        with self._connect(database) as connection:
            for statement in statements:
                connection.execute(sqlalchemy.text(statement), rows)

    def count(self, table: str) -> int:
        with self._connect("people") as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())

    @contextmanager
    def _connect(self, database: str) -> Iterator[sqlalchemy.Connection]:
        engine = sqlalchemy.create_engine(self.url(database, SUPERUSER), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server; stop it and remove all of it at the end.

    The user ``reader`` must show a password, all others are trusted.

    Raises:
        NoServer: PostgreSQL is not installed, or cannot be run by this user.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="nanollama-pg-"))
    data, log = folder / "data", folder / "log"
    try:
        as_owner = _become_owner(folder)
        fresh = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={SUPERUSER}"]
        _run([*as_owner, programs / "initdb", "-D", data, *fresh])
        (data / "pg_hba.conf").write_text(_ACCESS)
        control = [*as_owner, programs / "pg_ctl", "-D", data, "-w", "-t", "60"]
        _run([*control, "-l", log, "-o", f"{_OPTIONS} -k {folder}", "start"])
        try:
            yield Server(folder)
        finally:
            _run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise NoServer("PostgreSQL (initdb) is not installed")
    return found[-1].parent


def _become_owner(folder: Path) -> list[str]:
    """Start of a command that runs as somebody who may run a server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("runuser") is None:
        raise NoServer("PostgreSQL does not run as root, and there is no runuser")
    try:
        shutil.chown(folder, SUPERUSER)
    except LookupError:
        raise NoServer(f"PostgreSQL does not run as root, and there is no user {SUPERUSER}") from None
    return ["runuser", "-u", SUPERUSER, "--"]


def _run(command: list[str | Path]) -> None:
    # pg_ctl leaves the server behind with the pipes it was given: give it files
    with tempfile.TemporaryFile() as output:
        result = subprocess.run(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, timeout=120, cwd="/"
        )
        if result.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{command} failed: {output.read().decode(errors='replace')}")
