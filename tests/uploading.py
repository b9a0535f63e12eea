"""Uploads without HTTP: opened through intake, brought by writing into staging as a client on a shared disk does."""

from datetime import UTC, datetime
from pathlib import Path

from librarian import intake, verdicts
from librarian.catalog.incoming_rows import Commit
from librarian.catalog.records import Account, Incoming
from librarian.checksum import Algorithm, Checksum, Hasher, MemberDigest, book_checksum
from librarian.names import AccountId, AccountName, FileName, MemberPath, SiteName
from librarian.openings import UploadRequest
from librarian.policies import ClonePolicy
from librarian.site import Site
from librarian.states import Kind, Reach, Role, TransferState
from librarian.tasks.ingest import Ingest
from librarian.timing import plenty_of_time, utc_now
from librarian.wire.clones import OfferedClone
from tests.holding import write_payload

Content = bytes | dict[str, bytes | None]


def account(name: str = "ana", *roles: Role) -> Account:
    """An account as the web layer passes it; an uploader unless told otherwise."""
    return Account(
        id=AccountId(1),
        name=AccountName(name),
        roles=frozenset(roles or {Role.UPLOADER}),
        is_enabled=True,
        version=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


ANA = account("ana")
BEN = account("ben")


def digest_of(content: bytes, algorithm: Algorithm = Algorithm.XXH3) -> str:
    hasher = Hasher(algorithm)
    hasher.update(content)
    return hasher.hexdigest()


def checksum_of(content: Content, algorithm: Algorithm = Algorithm.XXH3) -> Checksum:
    if isinstance(content, bytes):
        return Checksum.of(algorithm, digest_of(content, algorithm))
    members = [
        MemberDigest(
            path=MemberPath(path),
            size=0 if inner is None else len(inner),
            hex=None if inner is None else digest_of(inner, algorithm),
        )
        for path, inner in content.items()
    ]
    return book_checksum(members, algorithm)


def size_of(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else sum(len(inner) for inner in content.values() if inner)


def asking(name: str, content: Content = b"truth", *, size: int | None = None, checksum=None) -> UploadRequest:
    return UploadRequest(
        name=FileName(name),
        size=size_of(content) if size is None else size,
        kind=Kind.FILE if isinstance(content, bytes) else Kind.BOOK,
        checksum=checksum,
    )


async def open_one(site: Site, name: str, content: Content = b"truth", *, by: Account = ANA, **asked):
    """The answer to one opening: an upload, or a refusal."""
    return (await intake.open_uploads(site, by, [asking(name, content, **asked)]))[0]


def payload_of(site: Site, upload: Incoming) -> Path:
    return site.stores.lookup(upload.store).staging_path(upload.token)


def folder_of(site: Site, upload: Incoming) -> Path:
    return payload_of(site, upload).parent


async def brought(site: Site, name: str, content: Content = b"truth", *, by: Account = ANA, **asked) -> Incoming:
    """An open upload whose bytes are in staging."""
    upload = await open_one(site, name, content, by=by, **asked)
    assert isinstance(upload, Incoming), upload
    write_payload(payload_of(site, upload), content)
    return upload


async def committed(site: Site, name: str, content: Content = b"truth", *, claimed=None, by: Account = ANA, **asked):
    """A staged upload, committed with the checksum of *content* unless another is *claimed*."""
    upload = await brought(site, name, content, by=by, **asked)
    checksum = claimed or checksum_of(content)
    (answer,) = await intake.commit_uploads(site, by, [Commit(uuid=upload.uuid, checksum=checksum)])
    assert isinstance(answer, Incoming), answer
    return answer


async def staged_clone(site: Site, name: str, content: bytes, *, uuid: str) -> None:
    """A clone from a peer, its bytes in staging and committed."""
    checksum = checksum_of(content)
    clone = OfferedClone(
        uuid=uuid,
        name=name,
        kind="file",
        size=len(content),
        checksum=checksum,
        uploader="ana",
        origin="nersc",
        created_at=utc_now(),
    )
    async with site.catalog.begin() as tx:
        peer = await tx.peers.add(
            SiteName("nersc"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
        )
    await verdicts.answer_offer(site, peer, [clone], lease=ClonePolicy().busy_lease)
    async with site.catalog.begin() as tx:
        (row,) = await tx.incoming.with_uuids([uuid], peer_id=peer.id)
        await tx.incoming.advance([row.id], to=TransferState.STAGED)
    write_payload(payload_of(site, row), content)


async def ingest(site: Site) -> None:
    """Ingest whatever is staged."""
    await Ingest(site).run_pass(plenty_of_time())


async def now_of(site: Site, upload: Incoming) -> Incoming:
    """The upload as it stands."""
    return await intake.describe(site, account("root", Role.ADMIN), upload.uuid)


async def state_of(site: Site, upload: Incoming) -> TransferState:
    return (await now_of(site, upload)).state


async def file_called(site: Site, name: str):
    async with site.catalog.read() as tx:
        return (await tx.files.named([FileName(name)])).get(FileName(name))


async def copies_of(site: Site, name: str):
    async with site.catalog.read() as tx:
        file = (await tx.files.named([FileName(name)]))[FileName(name)]
        return await tx.instances.of_files([file.id])


async def story_of(site: Site, name: str) -> list[str]:
    async with site.catalog.read() as tx:
        return [happening.what for happening in await tx.events.story_of(name)]


async def alerts_of(site: Site) -> list[str]:
    async with site.catalog.read() as tx:
        return [alert.cause for alert in await tx.alerts.open_ones()]


async def tally_of(site: Site, subject: str) -> tuple[int, int]:
    async with site.catalog.read() as tx:
        tally = await tx.tallies.of(subject)
    return tally.files, tally.bytes
