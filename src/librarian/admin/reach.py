"""Reaching a site as its operator.

A running server owns every write, so that commands speak to it: through ``admin.sock`` in its state folder where
they run beside it (the file's permission is the credential), else over HTTP with an admin account. Where no server
runs, the command becomes the owner for a moment and serves the same application to itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from librarian.auth import OPERATOR
from librarian.cli import session
from librarian.client import LibrarianClient
from librarian.client.address import Address
from librarian.client.socket_path import short_path
from librarian.errors import BadRequest, Conflict, Forbidden, OwnedElsewhere
from librarian.settings import check_settings, load_settings
from librarian.site import open_site
from librarian.web.app import create_app, make_runner
from librarian.wire.site import SiteStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from librarian.settings import Settings

#: What a socket's requests are addressed to; nobody resolves it.
_LOCAL: Final = "http://localhost"
#: How long another process on this host (a server that starts or ends, another command) may keep the site, in seconds.
_OWNER_PATIENCE: Final = 10.0
#: How often to look whether it still does, in seconds.
_LOOK_AGAIN: Final = 0.1
#: A person waits for the command: it does not wait for a database as long as a server does.
_DATABASE_PATIENCE: Final = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The site that a command is for: a URL, or a configuration (None: the default state folder)."""

    url: str | None
    config: Path | None

    @classmethod
    def choose(cls, *, url: str | None, config: Path | None) -> Target:
        """The first of ``--url``, ``--config``, ``LIBRARIAN_CONFIG``, ``LIBRARIAN_URL``, the default state folder."""
        if url is not None:
            return cls(url=url, config=None)
        if config is None and (named := os.environ.get("LIBRARIAN_CONFIG")):
            config = Path(named)
        if config is None and (somewhere := os.environ.get("LIBRARIAN_URL")):
            return cls(url=somewhere, config=None)
        return cls(url=None, config=config)

    def settings(self) -> Settings:
        """The settings of the configuration, right as to their form.

        Raises
        ------
        ConfigurationError
            They are not.
        BadRequest
            The target is a URL.
        """
        self.require_local()
        return load_settings(self.config)

    def require_local(self) -> None:
        """Raise BadRequest where the target is a URL."""
        if self.url is not None:
            raise BadRequest(
                f"this command looks at a site's own files, which cannot be reached through {self.url}",
                remedy="Run it on the site's machine, with --config; without one, LIBRARIAN_URL must not be set.",
            )


@asynccontextmanager
async def reach(target: Target) -> AsyncIterator[LibrarianClient]:
    """A client that may do everything at *target*.

    Raises
    ------
    PeerUnavailable
        Nobody answers at the URL.
    OwnedElsewhere
        No server answers here, and another process or host owns the catalog.
    Forbidden
        The site belongs to another user of this machine.
    """
    if target.url is not None:
        async with session.opened(target.url) as client:
            yield client
        return
    settings = target.settings()
    async with AsyncExitStack() as stack:
        path = settings.admin_socket
        if not _is_served(path):
            path = await _enter(stack, settings, target.config)
        client = LibrarianClient(Address(url=_LOCAL, socket=path), patience=session.PATIENCE)
        yield await stack.enter_async_context(client)


async def require_server(client: LibrarianClient, *, because: str) -> None:
    """Refuse what a command cannot do that serves itself for a moment: no task runs there, and nobody can call it.

    Raises
    ------
    Conflict
    """
    status = await client.request("GET", "/status", answer=SiteStatus)
    if not status.tasks:
        raise Conflict(f"no server runs here, and {because}", remedy="Start it ('librarian serve'), then repeat.")


def _is_served(path: Path) -> bool:
    try:
        if not path.exists():
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(short_path(path))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except PermissionError as error:
        raise Forbidden(
            f"{path} belongs to another user",
            remedy="Run the command as the server's user, or reach the server with --url and an admin account.",
        ) from error
    return True


async def _enter(stack: AsyncExitStack, settings: Settings, config: Path | None) -> Path:
    """Serve the site ourselves until *stack* ends; the socket on which it is served, or a server's that came up."""
    check_settings(settings, config)
    gives_up_at = time.monotonic() + _OWNER_PATIENCE
    while True:
        try:
            return await stack.enter_async_context(_serve_here(settings))
        except OwnedElsewhere as error:
            holder = str(error.details.get("holder", ""))
            # A host's name may have been cut where the lock is kept.
            is_here = socket.gethostname()[:40] in holder
            if not holder:
                raise
            if not is_here or time.monotonic() > gives_up_at:
                raise _unreachable(settings, error) from error
        await asyncio.sleep(_LOOK_AGAIN)
        if _is_served(settings.admin_socket):
            return settings.admin_socket


def _unreachable(settings: Settings, error: OwnedElsewhere) -> OwnedElsewhere:
    return OwnedElsewhere(
        f"no server answers at {settings.admin_socket}, yet {error.message}",
        remedy="Run the command on that host, or reach its server with --url and an admin account.",
        details=error.details,
    )


@asynccontextmanager
async def _serve_here(settings: Settings) -> AsyncIterator[Path]:
    limits = settings.limits.model_copy(update={"database_wait": _DATABASE_PATIENCE})
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(open_site(settings.model_copy(update={"limits": limits})))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="librarian-admin-")))
        runner = make_runner(create_app(site, everybody_is=OPERATOR))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        path = folder / "admin.sock"
        await web.UnixSite(runner, short_path(path)).start()
        yield path
