"""A real ``librarian serve`` in a process of its own, with a database that keeps what it says, for the benchmarks."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil
from tests.postgres import Databases, running_cluster

from librarian.catalog import migrations
from librarian.client import LibrarianClient

if TYPE_CHECKING:
    from collections.abc import Iterator

Database = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server process."""

    pid: int
    url: str
    #: Of the account ``admin``.
    password: str
    folder: Path

    def client(self) -> LibrarianClient:
        """A client on the same machine, as ``admin``."""
        return LibrarianClient(self.url, user="admin", password=self.password)

    def memory(self) -> tuple[int, int]:
        """Resident bytes of the server without its workers: now, and at most."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        now, peak = (re.search(rf"{key}:\s+(\d+) kB", status) for key in ("VmRSS", "VmHWM"))
        assert now is not None
        assert peak is not None
        return int(now[1]) * 1024, int(peak[1]) * 1024

    def cpu_seconds(self, *, has_workers: bool = True) -> float:
        """CPU seconds that the server has used, with or without its workers."""
        process = psutil.Process(self.pid)
        family = [process, *(process.children(recursive=True) if has_workers else ())]
        return float(sum(times.user + times.system for times in (each.cpu_times() for each in family)))


@contextlib.contextmanager
def serving(folder: Path, database: str, *, password: str | None = None) -> Iterator[Server]:
    """Serve a site in *folder* whose catalog is *database*, a URL as in the settings.

    *password*: of its ``admin``; only the first start tells it.
    """
    config = folder / "site.toml"
    config.write_text(
        f'name = "bench"\nlisten = "127.0.0.1:0"\nstate = "{folder}/state"\ndatabase = "{database}"\n'
        f'[[stores]]\nname = "fast"\nroot = "{folder}/store"\nstaging = "{folder}/staging"\n'
    )
    command = [sys.executable, "-m", "librarian.cli", "serve", "--config", str(config)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        if password is None:
            password = process.stdout.readline().strip().rpartition(" ")[2]
        while (told := re.search(r"serves (http\S+)", (folder / "log").read_text())) is None:
            time.sleep(0.05)
        yield Server(pid=process.pid, url=told[1], password=password, folder=folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextlib.contextmanager
def fresh_catalog(database: Database, parent: str | None) -> Iterator[tuple[Path, str]]:
    """An empty folder below *parent*, and the URL of an empty catalog that survives a power cut."""
    os.environ["LIBRARIAN_TEST_POSTGRES_FSYNC"] = "on"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent)))
        cluster = stack.enter_context(running_cluster()) if database == "postgresql" else None
        databases = Databases(cluster, folder, migrations.upgrade_blocking)
        if cluster is not None:
            url = cluster.url(databases.new_postgresql())
        else:
            url = databases.new_sqlite(folder / "catalog.sqlite")
        yield folder, url.replace("+asyncpg", "").replace("+aiosqlite", "")
