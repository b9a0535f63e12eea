"""Opening the librarian that a command speaks to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from librarian.client import LibrarianClient, connections
from librarian.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: How long a command that only asks goes on while the librarian is away: a person waits for it.
PATIENCE: Final = timedelta(seconds=5)
#: The same for a command that carries bytes, perhaps in a batch job at night.
LONG_PATIENCE: Final = timedelta(minutes=2)

_CREDENTIALS: Final = "Set LIBRARIAN_USER and LIBRARIAN_PASSWORD, or 'user' and 'password' in client.toml."

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
    at: str | None, *, shared: bool | None = None, patience: timedelta | None = None
) -> AsyncIterator[LibrarianClient]:
    """The librarian that *at* means, with the user's credentials; raises ConfigurationError."""
    address = connections.resolve(at)
    async with LibrarianClient(address, shared=shared, patience=PATIENCE if patience is None else patience) as client:
        try:
            yield client
        except Unauthenticated as error:
            if address.authorization is not None:
                raise
            raise Unauthenticated(error.message, remedy=_CREDENTIALS, details=error.details) from error
