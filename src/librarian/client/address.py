"""Where a librarian answers, and as whom we speak to it."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from librarian.errors import BadRequest, ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

#: Where the API of this version starts, below the site's own URL.
API: Final = "/api/v1"


@dataclass(frozen=True, kw_only=True)
class Address:
    """A librarian's URL or socket, and our credentials there. The password never shows in ``repr``.

    ``url`` is what people type: ``https://archive.example.org:8443`` (a path before ``/api`` is kept, for a
    librarian behind a reverse proxy). With ``socket`` given, the connection goes through that Unix socket instead
    and the file's permission is the credential.
    """

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    #: The same as PEM text; it goes before the file.
    authority: str | None = None
    socket: Path | None = None

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        ca_file: Path | None = None,
        authority: str | None = None,
    ) -> Address:
        """Read a URL that a person typed.

        Raises
        ------
        BadRequest
            Not an http or https URL, or one that carries credentials, a query or a fragment.
        """
        try:
            parts = urlsplit(url.strip())
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise BadRequest(
                f"{url!r} is not the URL of a librarian", remedy="Give one such as 'https://archive.example.org:8443'."
            )
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise BadRequest(
                "the URL of a librarian carries no user, password, query or fragment",
                remedy="Give user and password on their own, so that they never end up in logs.",
            )
        path = parts.path.rstrip("/").removesuffix(API)
        clean = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        return cls(url=clean, user=user, password=password, ca_file=ca_file, authority=authority)

    @property
    def authorization(self) -> str | None:
        """The value of the ``Authorization`` header, or None without credentials."""
        if self.user is None or self.password is None:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")

    @property
    def tls(self) -> ssl.SSLContext | bool:
        """What verifies the server: our own authority where one is given, else the system's.

        Raises
        ------
        ConfigurationError
            The certificate authority cannot be read.
        """
        if self.ca_file is None and self.authority is None:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca_file, cadata=self.authority)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"cannot read the certificate authority {self.ca_file or ''}: {error}",
                remedy="Give a PEM file that holds the authority's certificate.",
            ) from error
