"""Opening the librarian that a command speaks to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from librarian.client import LibrarianClient, connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

At = Annotated[
    str | None,
    typer.Option(
        "--at",
        "-a",
        metavar="NAME|URL",
        help="Which librarian: a name in client.toml or a URL. Default: LIBRARIAN_URL, else the default connection.",
        show_default=False,
    ),
]


@asynccontextmanager
async def opened(at: str | None, *, shared: bool | None = None) -> AsyncIterator[LibrarianClient]:
    """The librarian that *at* means, with the user's credentials; raises ConfigurationError."""
    async with LibrarianClient(connections.resolve(at), shared=shared) as client:
        yield client
