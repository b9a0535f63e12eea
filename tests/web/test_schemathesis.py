"""The whole API, asked everything that its description allows and much that it forbids, over a real connection.

No answer may be a 500, and none may be one that the description does not foresee: status, type, headers and shape.
The caller has every role and is a peer, so that the requests reach as deep as they can.
"""

import asyncio
import threading
from contextlib import contextmanager

import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from librarian.names import SiteName
from librarian.states import Reach, Role
from librarian.web import openapi
from librarian.web.table import ALL_ROUTES
from tests.site_fixtures import basic, create_account, opened_site, served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
#: Per operation and database; hypothesis looks for the corners first.
EXAMPLES = 6
PEER = "nersc"
KNOWN = {
    "/api/v1/accounts": {"name": "ana"},
    "/api/v1/stores": {"name": "fast"},
    "/api/v1/peers": {"name": PEER},
    "/docs": {"asset": "start.js"},
    "/api/v1/uploads": {"member": "a/b"},
}


def _configuration():
    generation = GenerationConfig(max_examples=EXAMPLES, deterministic=True, database="none")
    project = ProjectConfig(generation=generation)
    project.phases.coverage.enabled = True
    return SchemathesisConfig(projects=ProjectsConfig(default=project))


schema = schemathesis.openapi.from_dict(openapi.Description(ALL_ROUTES).document, config=_configuration())


@schema.hook
def map_path_parameters(context, path_parameters):
    """Every second time ask for something that is there: what is unknown is refused too early to tell much."""
    known = next((there for start, there in KNOWN.items() if context.operation.path.startswith(start)), {})
    if len(str(path_parameters)) % 2 == 0:
        return path_parameters
    return {name: known.get(name, value) for name, value in path_parameters.items()}


async def _serve(database_url, folder, ready, stop):
    async with opened_site(database_url, folder) as site:
        await create_account(site, PEER, *Role)
        await create_account(site, "ana", Role.READER)
        async with site.catalog.begin() as tx:
            await tx.peers.add(
                SiteName(PEER),
                url="http://127.0.0.1:1",
                username="us",
                secret=site.neighbours.secrets.encrypt("secret"),
                reach=Reach.PUSH,
                accepts=[""],
                entry_points=[],
            )
        async with served(site) as live:
            opened = await live.call(
                "POST", "/api/v1/uploads", user=PEER, body={"name": "2026/a", "size": 10, "kind": "book"}
            )
            KNOWN["/api/v1/uploads"]["id"] = opened.json["id"]
            ready(live.url)
            await stop.wait()


@contextmanager
def running(database_url, folder):
    """A server in a thread with a loop of its own: the requests come from a blocking client."""
    started, loop = threading.Event(), asyncio.new_event_loop()
    stop, urls = asyncio.Event(), []

    def ready(url):
        urls.append(url)
        started.set()

    def work():
        try:
            loop.run_until_complete(_serve(database_url, folder, ready, stop))
        finally:
            started.set()
            loop.close()

    thread = threading.Thread(target=work, name="server")
    thread.start()
    started.wait(30)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request, databases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("schemathesis")
    if request.param == "postgresql":
        if databases.cluster is None:
            pytest.skip("needs: PostgreSQL")
        name = databases.new_postgresql()
        database = databases.cluster.url(name)
    else:
        database = databases.new_sqlite(folder / "catalog.sqlite")
    with running(database, folder / "site") as address:
        yield address


@schema.parametrize()
def test_every_answer_is_one_that_the_description_foresees(case, url):
    case.call_and_validate(base_url=url, headers={"Authorization": basic(PEER)}, checks=CHECKS, timeout=20)
