"""Who we are at Globus: one access token for all threads, which renews itself. Everything here blocks."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import globus_sdk
from globus_sdk.authorizers import GlobusAuthorizer
from globus_sdk.transport import RequestsTransport, RetryConfig

from librarian.errors import PeerUnavailable, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Renewing = globus_sdk.ClientCredentialsAuthorizer | globus_sdk.RefreshTokenAuthorizer

#: A service that is silent for longer is away, in seconds.
SILENCE: Final = 25.0


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A confidential client (a secret) or a native app whose user has logged in (a refresh token)."""

    client_id: str
    client_secret_file: Path | None = None
    refresh_token_file: Path | None = None


class Account(GlobusAuthorizer):
    """Gives every request the access token of the moment. Safe to share between threads."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()
        self._transport: RequestsTransport | None = None
        self._renewing: Renewing | None = None

    def __repr__(self) -> str:
        return f"Account({self._credentials.client_id})"

    def get_authorization_header(self) -> str:
        """The header of the moment; asks for a token when there is none, or when it is about to expire.

        Raises
        ------
        Unauthenticated
            A file with a secret cannot be read.
        globus_sdk.GlobusError
            Globus Auth gives no token.
        """
        with self._lock:
            try:
                self._renewing = self._renewing or self._open()
                return self._renewing.get_authorization_header()
            except globus_sdk.GlobusAPIError:
                # The file is read anew next time: somebody may put another secret there.
                self._renewing = None
                raise

    def handle_missing_authorization(self) -> bool:
        """The token was refused: the next request gets a new one."""
        with self._lock:
            return self._renewing is not None and self._renewing.handle_missing_authorization()

    def consent(self, scopes: Sequence[str]) -> bool:
        """Consent to *scopes*, which a confidential client does by asking for them; False where a person must.

        A repeat does nothing more.
        """
        if self._credentials.client_secret_file is None:
            return False
        with self._lock:
            client = self._confidential(self._credentials.client_secret_file)
            client.oauth2_client_credentials_tokens(requested_scopes=list(scopes))
            self._renewing = None
        return True

    def close(self) -> None:
        """Close the connections to Globus Auth."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()
            self._transport = self._renewing = None

    def _open(self) -> Renewing:
        known = self._credentials
        if known.client_secret_file is not None:
            client = self._confidential(known.client_secret_file)
            return globus_sdk.ClientCredentialsAuthorizer(client, globus_sdk.TransferClient.scopes.all)
        if known.refresh_token_file is None:
            raise Unauthenticated(
                "there is neither a client secret nor a refresh token for Globus",
                remedy="Set globus.client_secret_file or globus.refresh_token_file.",
            )
        native = globus_sdk.NativeAppAuthClient(
            known.client_id, transport=self._connections(), retry_config=RetryConfig(max_retries=0)
        )
        return globus_sdk.RefreshTokenAuthorizer(_secret(known.refresh_token_file), native)

    def _confidential(self, file: Path) -> globus_sdk.ConfidentialAppAuthClient:
        return globus_sdk.ConfidentialAppAuthClient(
            self._credentials.client_id,
            _secret(file),
            transport=self._connections(),
            retry_config=RetryConfig(max_retries=0),
        )

    def _connections(self) -> RequestsTransport:
        self._transport = self._transport or RequestsTransport(http_timeout=SILENCE)
        return self._transport


class Login:
    """How a person lets a native app act for them: a page to visit, and a code to bring back. Blocks."""

    def __init__(self, client_id: str, *, collections: Sequence[str] = ()) -> None:
        self._transport = RequestsTransport(http_timeout=SILENCE)
        self._client = globus_sdk.NativeAppAuthClient(client_id, transport=self._transport)
        self._scope = globus_sdk.TransferClient.scopes.all
        for collection in collections:
            access = globus_sdk.scopes.GCSCollectionScopes(collection).data_access
            self._scope = self._scope.with_dependency(access)

    def url(self) -> str:
        """Where the person logs in."""
        self._client.oauth2_start_flow(self._scope, refresh_tokens=True)
        return self._client.oauth2_get_authorize_url(query_params={"prompt": "login"})

    def refresh_token(self, code: str) -> str:
        """The token that *code*, which the page showed, stands for.

        Raises
        ------
        Unauthenticated
            The code is not good, or not any more.
        """
        try:
            answer = self._client.oauth2_exchange_code_for_tokens(code)
        except globus_sdk.AuthAPIError as error:
            raise Unauthenticated(
                f"Globus does not take that code: {error.message or error.code}",
                remedy="Log in once more; a code is good for ten minutes, once.",
            ) from error
        except globus_sdk.GlobusError as error:
            raise PeerUnavailable(f"Globus does not answer: {error}", remedy="Check the network.") from error
        finally:
            self._transport.close()
        return str(answer.by_resource_server[globus_sdk.TransferClient.scopes.resource_server]["refresh_token"])


def _secret(file: Path) -> str:
    try:
        secret = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unauthenticated(
            f"cannot read the credentials for Globus in {file}: {error}",
            remedy="Put them there, readable by the server's user alone; they are read again by itself.",
        ) from error
    if not secret:
        raise Unauthenticated(f"{file}, with the credentials for Globus, is empty", remedy="Put them there.")
    return secret
