"""Pairing: how two sites come to know each other. docs/explanation/between-sites.md tells the story."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from librarian.errors import BadName, BadRequest
from librarian.states import Reach
from librarian.wire.base import InstantText, PeerRequest, Request, Response, Secret, SiteText
from librarian.wire.peers import OfferedSite, PeerSecret

#: What the inviter will do: send files to the other, receive them from it, or both.
Direction = Literal["send", "receive", "both"]
#: A token of this form; another number is another form.
TOKEN_PREFIX: Final = "librarian-invitation-1."  # noqa: S105 - not a secret
_ANY_PREFIX: Final = re.compile(r"librarian-invitation-(\d+)\.")
_CHECK_DIGITS: Final = 8
_COPY_AGAIN: Final = "Copy the whole line that 'peer invite' printed, from 'librarian-invitation' to its end."

Authority = Annotated[
    str | None,
    Field(
        max_length=200_000,
        description="PEM of the authority that signed the other's certificate; empty: one that this machine trusts; "
        "null: as it was.",
    ),
]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
#: 32 bytes of an ed25519 key, or 64 of a signature, in Base64.
PublicKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
Signature = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]


class Invitation(Response):
    """What a token carries."""

    url: str = Field(max_length=2000, description="Of the site that invites.")
    site: SiteText
    secret: PeerSecret
    direction: Direction
    expires_at: InstantText


def write_token(invitation: Invitation) -> str:
    """*invitation* as one line that can be copied: prefix, Base64, and eight digits that show whether it is whole."""
    body = base64.urlsafe_b64encode(invitation.model_dump_json().encode()).decode().rstrip("=")
    return f"{TOKEN_PREFIX}{body}.{_check(body)}"


def _check(body: str) -> str:
    return hashlib.sha256(f"{TOKEN_PREFIX}{body}".encode()).hexdigest()[:_CHECK_DIGITS]


def read_token(text: str) -> Invitation:
    """The invitation that *text* carries; white space that a terminal or a letter put into it does not matter.

    Raises
    ------
    BadRequest
        It is no token, one of another release, or not whole.
    """
    token = "".join(text.split())
    version = _ANY_PREFIX.match(token)
    if version is None:
        raise BadRequest("this is no invitation of a librarian", remedy=_COPY_AGAIN)
    if not token.startswith(TOKEN_PREFIX):
        raise BadRequest(
            f"the invitation has the form {version[1]}, this librarian reads form 1",
            remedy="Bring both sides to the same release.",
        )
    body, _, check = token.removeprefix(TOKEN_PREFIX).partition(".")
    if check != _check(body):
        raise BadRequest("the invitation is not whole: it was cut short, or changed on its way", remedy=_COPY_AGAIN)
    try:
        return Invitation.model_validate_json(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValidationError, BadName, binascii.Error) as error:
        raise BadRequest("the invitation cannot be read", remedy="Bring both sides to the same release.") from error


class Invite(Request):
    """Invite another site."""

    name: SiteText = Field(description="The name that the other site gives itself.")
    direction: Direction = "send"
    valid_seconds: int = Field(default=86_400, ge=60, le=30 * 86_400, description="It expires after this long.")
    accepts: list[str] | None = Field(
        default=None,
        max_length=1000,
        description="Name prefixes that we accept from it; null: as it was, all from a new peer.",
    )
    authority: Authority = None


class Invited(Response):
    """An invitation; its token is shown only now."""

    name: str
    direction: Direction
    token: str = Field(description="Give it to the other site's operator by a way that you trust.")
    expires_at: InstantText


class Join(Request):
    """Use an invitation."""

    token: Secret = Field(max_length=8000)
    accepts: list[str] | None = Field(
        default=None,
        max_length=1000,
        description="Name prefixes that we accept from it; null: as it was, all from a new peer.",
    )
    authority: Authority = None


class Redeem(PeerRequest):
    """Somebody whom we invited wants to know the terms. The same again, by the same site, gets the same answer."""

    secret: PeerSecret
    site: OfferedSite = Field(description="Who uses the invitation, and how its staging is reached.")
    url: str = Field(max_length=2000, description="Where it may be called.")
    knock: Hex32 = Field(description="What it answers to at that URL, at 'GET /api/v1/pairings/{knock}'.")
    public_key: PublicKey
    signature: Signature = Field(description="Of the secret, its name and its URL, by that key.")


class Terms(Response):
    """What two sites agree on, as the one who joins has it."""

    site: OfferedSite = Field(description="Who invites, and how its staging is reached.")
    public_key: PublicKey
    password: PeerSecret = Field(description="Of the account that the one who joins has at the inviter.")
    their_password: PeerSecret = Field(description="Of the account that the inviter has at the one who joins.")
    reach: Reach = Field(description="'poll': the inviter could not call back.")


class Confirm(PeerRequest):
    """The terms are written down here: make the account and the peer there."""

    secret: PeerSecret
    signature: Signature = Field(description="Of the secret, by the key that used the invitation.")


class Confirmed(Response):
    """Account and peer are made."""

    name: str


class Knocked(Response):
    """It is we who are joining."""

    name: SiteText
    signature: Signature = Field(description="Of the knock, by our key.")
