"""What every test may use: fresh databases of both kinds, and strictness about skips."""

import inspect
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import aioresponses.core
import hypothesis
import pytest

from tests.compiling import compile_once
from tests.postgres import Databases, running_cluster

pytest_plugins = ["tests.site_fixtures", "tests.drives", "tests.crash.drives"]

hypothesis.settings.register_profile(
    "librarian", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
hypothesis.settings.load_profile("librarian")

compile_once()

# A suite that a shell runs in the background has Ctrl-C ignored, and so would have whatever it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: A skip whose reason starts so is for something that a machine may lack; where all was installed it is a failure.
NEEDS = "needs: "


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("LIBRARIAN_TEST_NO_SKIP") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if NEEDS in reason:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: {reason}, and nothing may be missing here"
    return report


def pytest_collection_modifyitems(items):
    """Begin with what takes longest: as the last one it would keep everybody waiting."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/soak/"))


def pytest_terminal_summary(terminalreporter):
    """Print what tests have said, even where all is well: the seeds that they chose, and what happened then."""
    for report in [report for reports in terminalreporter.stats.values() for report in reports]:
        if getattr(report, "when", None) == "call":
            for words in [words for key, words in report.user_properties if key == "said"]:
                terminalreporter.write_line(words)


class _CurrentResponse(aiohttp.ClientResponse):
    """What aioresponses builds, with the argument that newer aiohttp asks for."""

    def __init__(self, method, url, **options):
        options.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(method, url, **options)


@pytest.fixture(autouse=True)
def _current_responses(monkeypatch):
    if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
        monkeypatch.setattr(aioresponses.core, "ClientResponse", _CurrentResponse)


@pytest.fixture(scope="session")
def databases(tmp_path_factory) -> Iterator[Databases]:
    """Makes fresh, migrated databases; starts PostgreSQL once per test process."""
    from librarian.catalog import migrations

    # What it finds out about a database would change how a later test is answered.
    with running_cluster(autovacuum=False) as cluster:
        yield Databases(cluster, tmp_path_factory.mktemp("databases"), migrations.upgrade_blocking, migrations.head())


@pytest.fixture
def sqlite_url(databases: Databases, tmp_path: Path) -> str:
    """A fresh, migrated SQLite catalog."""
    return databases.new_sqlite(tmp_path / "catalog.sqlite")


@pytest.fixture
def postgresql_url(databases: Databases) -> Iterator[str]:
    """A fresh, migrated PostgreSQL catalog."""
    if databases.cluster is None:
        pytest.skip(f"{NEEDS}PostgreSQL")
    name = databases.new_postgresql()
    yield databases.cluster.url(name)
    databases.take_back(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request) -> str:
    """A fresh, migrated catalog: every test that takes it runs on both databases."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(scope="session")
def hera() -> Path:
    """Real telescope data where it stands beside the project."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "hera"
    if not folder.is_dir():
        pytest.skip("the real data do not stand beside the project")
    return folder
