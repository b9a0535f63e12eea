"""What can be set, with defaults that work on a laptop."""

from __future__ import annotations

import os
import re
import socket
import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from librarian.errors import BadName, ConfigurationError
from librarian.names import RuleName, SiteName, SshAddress, SshPath, StoreName
from librarian.policies import ClonePolicy, HousekeepingPolicy, IngestPolicy, RulePolicy
from librarian.quantities import Bytes, Span

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_LISTEN: Final = "127.0.0.1:21108"


def _parsed(kind: type[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            return kind(text)
        except BadName as error:
            # Only a ValueError is collected with the other problems of the file.
            raise ValueError(f"{error.message}. {error.remedy}") from error

    return parse


SiteText = Annotated[str, AfterValidator(_parsed(SiteName))]
StoreText = Annotated[str, AfterValidator(_parsed(StoreName))]
RuleText = Annotated[str, AfterValidator(_parsed(RuleName))]
SshPathText = Annotated[str, AfterValidator(_parsed(SshPath))]


def default_state() -> Path:
    """``$XDG_STATE_HOME/librarian``, by default ``~/.local/state/librarian``."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "librarian"


def default_name() -> str:
    """The machine's short name, made a valid site name."""
    short = re.sub(r"[^a-z0-9._-]", "-", socket.gethostname().split(".")[0].lower()).lstrip("._-")[:63]
    return short or "site"


class Section(BaseModel):
    """A table of the settings file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSettings(Section):
    """Native TLS: PEM files."""

    certificate: Path = Field(description="The certificate, with its chain.")
    key: Path = Field(description="Its private key.")


class CollectionSettings(Section):
    """Where a store is found at Globus."""

    collection: uuid.UUID = Field(description="The id of the collection.")
    root: str = Field(description="The store's root, as the collection sees it.")
    staging: str = Field(description="The store's staging, as the collection sees it.")


class GlobusSettings(Section):
    """Who this site is at Globus, to send through it; receiving needs none of this."""

    client_id: uuid.UUID = Field(description="Of the app that was registered at app.globus.org.")
    client_secret_file: Path | None = Field(default=None, description="Holds the secret of a service account.")
    refresh_token_file: Path | None = Field(
        default=None, description="Holds the refresh token of a person who logged in with a native app."
    )


class LandingSettings(Section):
    """Where ssh finds a store's staging, for peers that send with rsync."""

    target: str = Field(description="The account that writes there: 'user@host', as peers reach it.")
    port: int = Field(default=22, ge=1, le=65535, description="Of its ssh server.")
    staging: SshPathText = Field(description="The store's staging, as that account sees it.")

    @field_validator("target")
    @classmethod
    def _is_plain(cls, target: str) -> str:
        return _parsed(SshAddress)(f"{target}:22").rpartition(":")[0]

    @property
    def address(self) -> SshAddress:
        """What peers pin."""
        return SshAddress(f"{self.target}:{self.port}")


class RsyncSettings(Section):
    """Who this site is at ssh, to send with rsync; receiving needs none of this."""

    key_file: Path = Field(description="The private key, without a passphrase; its public half is given to peers.")
    known_hosts_file: Path | None = Field(
        default=None, description="Host keys of peers; by default those that the server's user knows."
    )


class SlackSettings(Section):
    """Where people are told in Slack."""

    webhook_file: Path = Field(description="Holds the URL of an incoming webhook, which is a secret.")

    def read_webhook(self) -> str:
        """The URL, read anew each time.

        Raises
        ------
        ConfigurationError
            Unreadable, or neither https nor to this machine. The URL itself is not told: it is a secret where it is
            wrong as well.
        """
        remedy = "Put the webhook's URL, as Slack shows it, on the first line of the file."
        try:
            url = self.webhook_file.read_text("ascii").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
            raise ConfigurationError(f"cannot read {self.webhook_file}: {why}", remedy=remedy) from error
        if not re.match(r"https://[^/?#@\s]+/|http://(127\.0\.0\.1|localhost)(:\d+)?/", url):
            raise ConfigurationError(f"{self.webhook_file} does not begin with an https URL", remedy=remedy)
        return url


class StoreSettings(Section):
    """A local place for payloads."""

    name: StoreText = Field(description="Unique within the site; it may not change.")
    kind: Literal["local"] = Field(default="local", description="A POSIX directory.")
    root: Path = Field(description="Where published payloads stand.")
    staging: Path = Field(description="Where arriving payloads wait; on the root's own mount, outside of it.")
    limit: Bytes | None = Field(default=None, ge=0, description="The most that librarian keeps there.")
    barrier: Literal["syncfs", "fsync"] = Field(
        default="syncfs", description="How a batch is made durable: 'syncfs' on local disks, 'fsync' on network ones."
    )
    staging_mode: str | None = Field(
        default=None, pattern=r"^0?[0-7]{3,4}$", description="Octal mode of each staging directory."
    )
    staging_group: str | None = Field(default=None, description="Group of each staging directory.")
    takes_foreign_writes: bool = Field(
        default=False, description="Others write into staging under their own user id; room is reserved twice."
    )
    verify_from: Literal["cache", "medium"] = Field(
        default="cache",
        description="'medium': what was written is read back from the device, past the page cache, before it counts.",
    )
    answer_timeout: Span = Field(
        default=timedelta(seconds=30), gt=timedelta(0), description="A store that is silent for longer counts as hung."
    )
    globus: CollectionSettings | None = Field(default=None, description="Where it is found at Globus, if it is.")
    rsync: LandingSettings | None = Field(default=None, description="Where ssh finds its staging, if it does.")


class RuleSettings(RulePolicy):
    """A replication rule: a name, and the policy."""

    name: RuleText = Field(description="Unique within the site.")

    @property
    def policy(self) -> RulePolicy:
        """The rule without its name."""
        return RulePolicy.model_validate(self.model_dump(exclude={"name"}))


class Limits(Section):
    """Bounds on what a request, a worker or a stop may take."""

    json_bytes: Bytes = Field(default=4 * 1024**2, ge=1024, description="Longest JSON body.")
    read_timeout: Span = Field(
        default=timedelta(seconds=60), gt=timedelta(0), description="Longest silence within a request's body."
    )
    workers: int = Field(
        default_factory=lambda: min(8, os.cpu_count() or 1), ge=1, le=256, description="Processes that hash."
    )
    drain: Span = Field(
        default=timedelta(seconds=30), ge=timedelta(0), description="How long a stop waits for work under way."
    )
    database_wait: Span | None = Field(
        default=None, description="How long a start waits for its database; for ever by default."
    )


class Settings(Section):
    """Everything about one site."""

    name: SiteText = Field(default_factory=default_name, description="The site's name, unique among its peers.")
    listen: str = Field(default=DEFAULT_LISTEN, description="'<address>:<port>'; port 0 takes any free one.")
    state: Path = Field(default_factory=default_state, description="Folder for the catalog, keys and sockets.")
    database: str = Field(
        default="sqlite",
        description="'sqlite' (a file in the state folder), 'sqlite:////path', or 'postgresql://user@host/name'.",
    )
    database_password_file: Path | None = Field(default=None, description="Holds the password for the database.")
    public_url: str | None = Field(
        default=None, description="How others reach this site; by default what it listens on, on loopback."
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="Addresses or networks whose X-Forwarded-For, -Proto and -Host are believed."
    )
    allow_plaintext: bool = Field(
        default=False, description="The explicit word for listening, or calling peers, without TLS beyond loopback."
    )
    tls: TlsSettings | None = Field(default=None, description="Serve https, with these files.")
    globus: GlobusSettings | None = Field(default=None, description="Who this site is at Globus.")
    rsync: RsyncSettings | None = Field(default=None, description="Who this site is at ssh.")
    slack: SlackSettings | None = Field(default=None, description="Where people are told in Slack.")
    stores: tuple[StoreSettings, ...] = Field(default=(), description="At least one; by default one in the state.")
    rules: tuple[RuleSettings, ...] = Field(default=(), description="Which files must get a copy where.")
    limits: Limits = Field(default_factory=Limits, description="Bounds on what a request, a worker or a stop may take.")
    ingest: IngestPolicy = Field(
        default_factory=IngestPolicy, description="How staged payloads are verified and published."
    )
    housekeeping: HousekeepingPolicy = Field(
        default_factory=HousekeepingPolicy, description="When abandoned things are cleared away."
    )
    clones: ClonePolicy = Field(default_factory=ClonePolicy, description="How remote clones are looked after.")
    log_format: Literal["text", "json"] = Field(default="text", description="Lines for people, or JSON for machines.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least that is logged."
    )

    @property
    def address(self) -> tuple[str, int]:
        """The address and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def url(self) -> str:
        """How others reach this site."""
        return self.public_url or f"{'https' if self.tls else 'http'}://{self.listen}"

    @property
    def admin_socket(self) -> Path:
        """The socket through which commands on this machine reach the server as admin."""
        return self.state / "admin.sock"

    @property
    def key_file(self) -> Path:
        """The keys that encrypt peers' credentials."""
        return self.state / "secrets.key"

    @property
    def database_url(self) -> str:
        """The database's URL for the driver, password included: never show it."""
        if self.database == "sqlite":
            return f"sqlite+aiosqlite:///{self.state / 'catalog.sqlite'}"
        scheme, _, rest = self.database.partition(":")
        driver = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
        return f"{driver.get(scheme, scheme)}:{rest}"

    @property
    def database_file(self) -> Path | None:
        """SQLite's file; None for a database server."""
        scheme, _, rest = self.database_url.partition(":///")
        return Path(rest) if scheme.startswith("sqlite") else None

    @property
    def database_password(self) -> str | None:
        """The password from ``database_password_file``, read anew each time."""
        if self.database_password_file is None:
            return None
        return self.database_password_file.read_text().strip()
