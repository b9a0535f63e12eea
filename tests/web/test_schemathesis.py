"""The whole API, asked everything that its description allows and much that it forbids, over a real connection.

No answer may be a 500, and none may be one that the description does not foresee: status, type, headers and shape.
The caller has every role and is a peer, so that the requests reach as deep as they can.
"""

import asyncio
import hashlib
import logging
import multiprocessing
from datetime import timedelta

import pytest
import schemathesis
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
from librarian.tasks.everything import all_tasks
from librarian.tasks.supervisor import Supervisor
from librarian.web import openapi
from librarian.web.table import ALL_ROUTES
from tests.site_fixtures import basic, create_account, opened_site, served


def is_no_bug(context, response, case):
    """503 is an answer: a peer may be away. 500 is none."""
    assert response.status_code != 500, response.text


CHECKS = [
    is_no_bug,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
#: Per operation and database; hypothesis looks for the corners first.
EXAMPLES = 6
PEER = "nersc"
FILE = "2026/file"
KNOWN = {
    "/api/v1/accounts": {"name": "ana"},
    "/api/v1/stores": {"name": "fast"},
    "/api/v1/peers": {"name": PEER},
    "/api/v1/rules": {"name": "nights"},
    "/docs": {"asset": "start.js"},
    "/api/v1/files": {"name": FILE},
    "/api/v1/members": {"name": FILE},
    "/api/v1/content": {"name": FILE},
    "/api/v1/uploads": {"member": "a/b"},
}


def _configuration():
    generation = GenerationConfig(max_examples=EXAMPLES, deterministic=True, no_shrink=True, database="none")
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


async def _serve(database_url, folder, pipe):
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
        async with Supervisor(site, all_tasks(site)), served(site, inbox_wait=timedelta(0)) as live:
            body = {"name": "open/book", "size": 10, "kind": "book"}
            opened = await live.call("POST", "/api/v1/uploads", user=PEER, body=body)
            await _upload(live, FILE, b"0123456789")
            await live.call("PUT", "/api/v1/rules/nights", user=PEER, body={"peer": PEER})
            pipe.send((live.url, opened.json["id"]))
            await asyncio.to_thread(pipe.recv)


async def _upload(live, name, content):
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    body = {"name": name, "size": len(content), "checksum": checksum}
    opened = await live.call("POST", "/api/v1/uploads", user=PEER, body=body)
    path = f"/api/v1/uploads/{opened.json['id']}"
    await live.call("PUT", f"{path}/content", user=PEER, data=content)
    committed = await live.call("POST", f"{path}/commit?wait=20", user=PEER)
    assert committed.status == 200, committed.raw


def serve(database_url, folder, pipe):
    """A server with all its tasks in a process of its own; sends its address, and ends when it is told to."""
    logging.disable(logging.WARNING)
    asyncio.run(_serve(database_url, folder, pipe))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request, databases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("schemathesis")
    if request.param == "postgresql":
        if databases.cluster is None:
            pytest.skip("needs: PostgreSQL")
        database = databases.cluster.url(databases.new_postgresql())
    else:
        database = databases.new_sqlite(folder / "catalog.sqlite")
    ours, theirs = multiprocessing.Pipe()
    # In this process the server's threads would disturb what hypothesis does with chance.
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(database, folder / "site", theirs))
    server.start()
    theirs.close()
    address, KNOWN["/api/v1/uploads"]["id"] = ours.recv()
    yield address
    ours.send(None)
    server.join(30)
    ours.close()


@schema.parametrize()
def test_every_answer_is_one_that_the_description_foresees(case, url):
    case.call_and_validate(base_url=url, headers={"Authorization": basic(PEER)}, checks=CHECKS, timeout=20)
