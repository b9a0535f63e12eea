"""What leaves the catalog: frozen records. A change is a new record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from librarian.checksum import Checksum
    from librarian.names import (
        AccountId,
        AccountName,
        BatchId,
        FileId,
        FileName,
        ManifestId,
        PeerId,
        ReceptionId,
        RuleId,
        RuleName,
        SiteName,
        StoreId,
        StoreName,
        Token,
        TransferId,
    )
    from librarian.states import (
        Arrival,
        BatchState,
        DueState,
        Flow,
        Intent,
        Kind,
        Presence,
        Reach,
        Role,
        RuleWay,
        TransferState,
        VerifiedFrom,
    )


@dataclass(frozen=True, kw_only=True)
class SiteRecord:
    """Who this catalog belongs to."""

    uuid: str
    name: SiteName
    generation: int
    epoch: int
    restored_at: datetime | None
    restored_why: str | None


@dataclass(frozen=True, kw_only=True)
class Account:
    """Somebody who may call us. The hash never shows in ``repr``."""

    id: AccountId
    name: AccountName
    roles: frozenset[Role]
    is_enabled: bool
    version: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Login:
    """What an account's password is compared with, for the doorkeeper alone."""

    account: Account
    password_hash: str = field(repr=False)
    #: Of a password that takes the place of the other when it is first used.
    next_hash: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class EntryPoint:
    """How an engine reaches a peer's staging: pinned by the sender."""

    store: StoreName
    engine: str
    #: The base URL, ssh target, endpoint id; empty for ``local``.
    address: str
    #: The staging path as that engine sees it; empty for ``http``.
    staging: str


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another librarian."""

    id: PeerId
    name: SiteName
    url: str
    username: str
    #: How it learns what we have to say: we call it, or it fetches.
    reach: Reach
    #: It cannot call us: we fetch what it has to say.
    is_fetched: bool
    is_enabled: bool
    accepts: tuple[str, ...]
    entry_points: tuple[EntryPoint, ...]
    held_because: str | None
    flow: Flow
    #: Bytes per second, or None.
    rate_limit: int | None
    #: As ``windows.Window`` writes them; none is always.
    windows: tuple[str, ...]
    #: Bytes that it may have in its staging, or None.
    staged_budget: int | None
    seen_epoch: int
    seen_seq: int
    sent_seq: int
    last_heard_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class StoreRecord:
    """A store as the catalog knows it; its paths live in the settings."""

    id: StoreId
    name: StoreName
    uuid: str
    kind: str
    is_open: bool
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class File:
    """An immutable named payload."""

    id: FileId
    name: FileName
    kind: Kind
    size: int
    checksum: Checksum
    uploader: str
    origin: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class InstanceRecord:
    """A copy of a file on one of our stores."""

    file_id: FileId
    store: StoreName
    presence: Presence
    intent: Intent
    verified_at: datetime
    verified_from: VerifiedFrom


@dataclass(frozen=True, kw_only=True)
class RemoteInstanceRecord:
    """A peer's copy, as it told us."""

    file_id: FileId
    peer: SiteName
    store: str
    attested_at: datetime


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """One file on its way in."""

    id: TransferId
    uuid: str
    arrival: Arrival
    peer_id: PeerId | None
    account: str
    name: FileName
    kind: Kind
    size: int
    checksum: Checksum | None
    uploader: str
    origin: str
    file_created_at: datetime | None
    store: StoreName
    store_id: StoreId
    token: Token
    state: TransferState
    code: str | None
    reason: str | None
    has_staging: bool
    attempts: int
    created_at: datetime
    progressed_at: datetime
    #: Of one that is read from a drive.
    reception_id: ReceptionId | None = None
    #: Of a copy of what rests on a store of ours: that store, and the rule that asks for it.
    source_store_id: StoreId | None = None
    rule_id: RuleId | None = None


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """One file on its way to a peer."""

    id: TransferId
    uuid: str
    peer_id: PeerId
    file_id: FileId
    name: FileName
    kind: Kind
    size: int
    checksum: Checksum
    batch_id: BatchId | None
    #: It travels on a drive, with this manifest.
    manifest_id: ManifestId | None
    token: Token | None
    store: StoreName | None
    state: TransferState
    code: str | None
    reason: str | None
    created_at: datetime
    progressed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Transfers that one engine moves together."""

    id: BatchId
    peer_id: PeerId
    engine: str
    store: StoreName
    key: str | None
    handle: str | None
    state: BatchState
    files: int
    bytes: int
    bytes_done: int
    attempts: int
    reason: str | None
    created_at: datetime
    progressed_at: datetime
    #: Since when its engine sees nothing done, although something should be.
    silent_since: datetime | None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A replication rule; ``policy`` is the JSON of ``policies.RulePolicy``."""

    id: RuleId
    name: RuleName
    version: int
    way: RuleWay
    peer_id: PeerId | None
    policy: str
    is_from_settings: bool
    is_enabled: bool
    backfill_after: FileId | None
    backfill_until: FileId
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class CopyDueRecord:
    """A copy that a file still owes to a rule."""

    file_id: FileId
    rule: RuleName
    way: RuleWay
    peer: SiteName | None
    #: Of a rule that asks for a copy on each of its stores: which one.
    store: StoreName | None
    state: DueState
    attempts: int
    #: Of the attempts, those that failed for reasons of the file's own.
    failures: int
    next_try_at: datetime
    code: str | None
    reason: str | None
    created_at: datetime
    #: When it came into its state.
    since: datetime


@dataclass(frozen=True, kw_only=True)
class StoppedCopy:
    """A due copy that goes no further by itself."""

    file_id: FileId
    rule_id: RuleId
    name: FileName
    peer: SiteName
    rule: RuleName
    size: int
    state: DueState
    attempts: int
    code: str | None
    reason: str | None
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One milestone to be written into the story of a subject."""

    subject: str
    what: str
    who: str
    why: str = ""
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something a person must look at."""

    cause: str
    message: str
    remedy: str
    count: int
    first_at: datetime
    last_at: datetime
    acknowledged_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Notification:
    """What people have to be told."""

    cause: str
    message: str
    #: So often it was reported since it was told last.
    count: int
    first_at: datetime


@dataclass(frozen=True, kw_only=True)
class Tally:
    """A total kept in step with what it counts."""

    files: int
    bytes: int
