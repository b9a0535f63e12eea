"""Reaching a site as its operator.

A running server owns every write, so that commands speak to it: through ``admin.sock`` in its state folder where
they run beside it (the file's permission is the credential), else over HTTP with an admin account. Where no server
runs, the command becomes the owner for a moment and serves the same application to itself.
"""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from librarian.auth import OPERATOR
from librarian.client import LibrarianClient
from librarian.client.address import Address
from librarian.client.socket_path import short_path
from librarian.errors import OwnedElsewhere
from librarian.settings import check_settings, load_settings
from librarian.site import open_site
from librarian.web.app import create_app, make_runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from librarian.settings import Settings

#: What a socket's requests are addressed to; nobody resolves it.
_LOCAL: Final = "http://localhost"


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
        """The settings of the configuration, checked as to form."""
        return load_settings(self.config)


@asynccontextmanager
async def reach(target: Target) -> AsyncIterator[LibrarianClient]:
    """A client that may do everything at *target*.

    Raises
    ------
    PeerUnavailable
        Nobody answers at the URL.
    OwnedElsewhere
        No server answers here, and another process or host owns the catalog.
    """
    if target.url is not None:
        user, password = os.environ.get("LIBRARIAN_USER"), os.environ.get("LIBRARIAN_PASSWORD")
        async with LibrarianClient(target.url, user=user, password=password) as client:
            yield client
        return
    settings = target.settings()
    async with AsyncExitStack() as stack:
        path = settings.admin_socket
        if not _is_served(path):
            path = await stack.enter_async_context(_serve_here(settings, target.config))
        client = LibrarianClient(Address(url=_LOCAL, socket=path))
        yield await stack.enter_async_context(client)


def _is_served(path: Path) -> bool:
    if not path.exists():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(short_path(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True


@asynccontextmanager
async def _serve_here(settings: Settings, config: Path | None) -> AsyncIterator[Path]:
    check_settings(settings, config)
    try:
        async with AsyncExitStack() as stack:
            site = await stack.enter_async_context(open_site(settings))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="librarian-admin-")))
            runner = make_runner(create_app(site, everybody_is=OPERATOR))
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            path = folder / "admin.sock"
            await web.UnixSite(runner, str(path)).start()
            yield path
    except OwnedElsewhere as error:
        raise OwnedElsewhere(
            f"no server answers at {settings.admin_socket}, yet {error.message}",
            remedy="Run the command on that host, or reach its server with --url and an admin account.",
            details=error.details,
        ) from error
