"""A Globus for the demonstration: a service on loopback that speaks as Globus does, and really moves files."""

from __future__ import annotations

import asyncio
import secrets
import sys
import uuid
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from librarian.errors import BadRequest, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: The project, whose tests have that service.
TOP: Final = Path(__file__).parents[3]
MODULE: Final = "tests.fakes.globus"
#: Environment variables by which Globus's own SDK finds its services.
SERVICE_URLS: Final = ("GLOBUS_SDK_SERVICE_URL_AUTH", "GLOBUS_SDK_SERVICE_URL_TRANSFER")


@dataclass(frozen=True, kw_only=True)
class Globus:
    """Who the demonstration is there, and the one collection that shows both sites' folders."""

    url: str
    client_id: uuid.UUID
    secret_file: Path
    collection: uuid.UUID

    @property
    def environment(self) -> dict[str, str]:
        """What leads a server to it."""
        return dict.fromkeys(SERVICE_URLS, self.url)


@asynccontextmanager
async def serving_globus(folder: Path) -> AsyncIterator[Globus]:
    """Run the service as a process of its own while the block runs; it shows *folder* as a collection.

    Raises
    ------
    BadRequest
        This is no checkout of the project.
    """
    if not TOP.joinpath(*MODULE.split(".")).is_dir():
        raise BadRequest(
            f"there is no Globus for the demonstration at {TOP}",
            remedy="Run scripts/demo in a checkout of the project, or leave out --globus.",
        )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE, cwd=TOP, stdin=DEVNULL, stdout=PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it is piped
        url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise Unavailable(
                "the Globus of the demonstration ended at once", remedy="Run it alone: python -m " + MODULE
            )
        yield await _introduce(url, folder)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _introduce(url: str, folder: Path) -> Globus:
    """Make a client with a secret, and a collection: what its web pages are for at Globus itself."""
    globus = Globus(url=url, client_id=uuid.uuid4(), secret_file=folder / "globus.secret", collection=uuid.uuid4())
    secret = secrets.token_urlsafe(15)
    globus.secret_file.write_text(secret)
    globus.secret_file.chmod(0o600)
    known = {"clients": {str(globus.client_id): secret}, "collections": {str(globus.collection): str(folder)}}
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.post(f"{url.rstrip('/')}/fake", json=known),
    ):
        return globus
