"""Uploads over HTTP, step by step, against a served site."""

import pytest

from librarian.tasks.ingest import Ingest
from librarian.tasks.supervisor import Supervisor

UPLOADS = "/api/v1/uploads"


@pytest.fixture
async def working(live_server):
    """A served site whose ingest runs."""
    async with Supervisor(live_server.site, [Ingest(live_server.site)]):
        yield live_server


async def opened(live, name="2026/a", content=b"truth", *, user="uploader", **fields):
    size = len(content) if isinstance(content, bytes) else sum(len(inner or b"") for inner in content.values())
    kind = "file" if isinstance(content, bytes) else "book"
    reply = await live.call("POST", UPLOADS, user=user, body={"name": name, "size": size, "kind": kind, **fields})
    assert reply.status in (200, 201), reply.json
    return reply.json


def content_of(upload, member=None, *, offset=None) -> str:
    path = f"{UPLOADS}/{upload['id']}/content" + (f"/{member}" if member else "")
    return path if offset is None else f"{path}?offset={offset}"


async def put(live, upload, data, member=None, *, offset=None, user="uploader", headers=None):
    return await live.call("PUT", content_of(upload, member, offset=offset), user=user, data=data, headers=headers)


async def commit(live, upload, checksum, *, wait=30, user="uploader"):
    body = {} if checksum is None else {"checksum": checksum}
    return await live.call("POST", f"{UPLOADS}/{upload['id']}/commit?wait={wait}", user=user, body=body)
