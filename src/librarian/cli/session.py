"""Opening the librarian that a command speaks to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from librarian.client import LibrarianClient, connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: How long a command that only asks goes on while the librarian is away: a person waits for it.
PATIENCE: Final = timedelta(seconds=5)
#: The same for a command that carries bytes, perhaps in a batch job at night.
LONG_PATIENCE: Final = timedelta(minutes=2)

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
async def opened(
    at: str | None, *, shared: bool | None = None, patience: timedelta = PATIENCE
) -> AsyncIterator[LibrarianClient]:
    """The librarian that *at* means, with the user's credentials; raises ConfigurationError."""
    async with LibrarianClient(connections.resolve(at), shared=shared, patience=patience) as client:
        yield client
