"""What all request and response models share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainSerializer, SecretStr
from pydantic.functional_validators import AfterValidator

from librarian.checksum import Checksum
from librarian.names import AccountName, FileName, MemberPath, RuleName, SiteName, StoreName, Token

#: Sent by both sides in the ``Librarian-Protocol`` header; grows when an older side would misunderstand.
PROTOCOL: Final = 1
PROTOCOL_HEADER: Final = "Librarian-Protocol"
#: The most items in one list request.
LIST_ITEMS: Final = 4096
#: SQL integers end at 2**63 - 1.
BIGGEST: Final = 2**63 - 1

#: What a name looks like, for the API's description; the value types say it exactly.
_LABEL: Final[dict[str, JsonValue]] = {"pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"}
_STORE_LABEL: Final[dict[str, JsonValue]] = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"}
#: A part of a path is anything without slashes and control characters, but "." and "..".
_ANY: Final = r"[^/\x00-\x1f\x7f]"
_NO_DOT: Final = r"[^/.\x00-\x1f\x7f]"
_PART: Final = rf"({_NO_DOT}{_ANY}*|\.{_NO_DOT}{_ANY}*|\.\.{_ANY}+)"
_PATH: Final[dict[str, JsonValue]] = {"pattern": f"^{_PART}(/{_PART})*$"}
_DIGEST: Final[dict[str, JsonValue]] = {"pattern": "^(book1-)?((xxh3|md5):[0-9a-f]{32}|(blake3|sha256):[0-9a-f]{64})$"}

#: What one site says to another in words; more is cut off.
LONGEST_REMARK: Final = 2000


def in_utc(instant: datetime) -> datetime:
    """*instant* in UTC; without a zone it is meant in UTC. Raises ValueError when UTC has no year for it."""
    if instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it lies outside the years 1 to 9999 of UTC") from error


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text[:LONGEST_REMARK])


InstantText = Annotated[
    datetime,
    Field(strict=False, description="ISO 8601 date or instant; UTC where no zone is given."),
    AfterValidator(in_utc),
]
#: What another site says, as a person may read it: nothing in it moves a terminal's cursor.
Remark = Annotated[str, AfterValidator(_plain)]
FileNameText = Annotated[
    str,
    AfterValidator(FileName),
    Field(description="Relative path, 1 to 1,024 bytes UTF-8.", json_schema_extra={**_PATH, "maxLength": 1024}),
]
MemberText = Annotated[
    str,
    AfterValidator(MemberPath),
    Field(description="Relative path inside a book.", json_schema_extra={**_PATH, "maxLength": 2048}),
]
TokenText = Annotated[
    str,
    AfterValidator(Token),
    Field(description="32 hexadecimal digits.", json_schema_extra={"pattern": "^[0-9a-f]{32}$"}),
]
SiteText = Annotated[str, AfterValidator(SiteName), Field(json_schema_extra=_LABEL)]
StoreText = Annotated[str, AfterValidator(StoreName), Field(json_schema_extra=_STORE_LABEL)]
AccountText = Annotated[str, AfterValidator(AccountName), Field(json_schema_extra=_LABEL)]
RuleText = Annotated[str, AfterValidator(RuleName), Field(json_schema_extra=_LABEL)]
ChecksumText = Annotated[
    str,
    AfterValidator(Checksum),
    Field(
        description="'<algorithm>:<hex>' or 'book1-<algorithm>:<hex>'; algorithms: xxh3, blake3, sha256, md5.",
        json_schema_extra=_DIGEST,
    ),
]
Size = Annotated[int, Field(ge=0, le=BIGGEST, description="Bytes.")]
Uuid = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
#: Shown by no ``repr``, and yet sent: the one place where it is read is the body of the request.
Secret = Annotated[
    SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), return_type=str, when_used="json")
]


class Request(BaseModel):
    """A request body: strict types, no unknown fields, so that a typing error is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Query(BaseModel):
    """The query string of a request: text is read as numbers and instants, no unknown parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PeerRequest(BaseModel):
    """A body that another librarian sends: strict types, but a newer peer's unknown fields are tolerated."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Response(BaseModel):
    """A response body: a client tolerates fields that a newer server adds."""

    model_config = ConfigDict(extra="ignore", frozen=True)
