"""Intake: the one door for uploads. What it opens and stages, ``tasks/ingest`` verifies and publishes.

Repeats are harmless, whatever became of the first answer: opening what is open gives the same upload, committing
what is committed changes nothing. Everything takes lists: a thousand uploads cost a handful of statements and one
trip to a store's threads.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from librarian import guard, openings, room
from librarian.catalog.incoming_rows import Commit, Failure, Opening
from librarian.catalog.records import Happening, Incoming
from librarian.errors import (
    BadChecksum,
    CallerError,
    LibrarianError,
    NameBusy,
    NotFound,
    Unavailable,
    WrongState,
)
from librarian.names import Token
from librarian.states import LIVE, OPEN, Arrival, Role, TransferState
from librarian.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from librarian.bells import Watch
    from librarian.catalog.records import Account
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site

Answer = Incoming | LibrarianError

#: The bell of ``tasks/ingest``.
INGEST_BELL: Final = "ingest"


async def open_uploads(site: Site, account: Account, requests: Sequence[openings.UploadRequest]) -> list[Answer]:
    """Promise room and a place in staging for each of *requests*, and answer in their order.

    A repeat (same account, name, kind and size) gives the upload that is under way. The rows are written first and
    the directories made afterwards, so that a crash leaves a row without a directory, which a repeat makes.

    Returns
    -------
    Per request the upload, or why not: NameHeld, NameBusy, NameNested, NoRoom, BadChecksum, StoreUnavailable.
    """
    rooms = await room.sample(site)
    answers, new = await _write_rows(site, account, requests, rooms)
    if room.is_short(answers) and await room.look_again(site):
        # Reservations shrink as bytes come in; before a refusal for want of room they are worth another look.
        answers, more = await _write_rows(site, account, requests, rooms)
        new |= more
    guard.step("row written")
    return await _make_directories(site, answers, new)


async def _write_rows(
    site: Site, account: Account, requests: Sequence[openings.UploadRequest], rooms: Sequence[room.Room]
) -> tuple[list[Answer], set[str]]:
    """The answers, and the ids of those that are new."""
    async with site.catalog.begin(opens_names=True) as tx:
        obstacles = await tx.files.conflicts([request.name for request in requests])
        ledger = await room.ledger(tx, rooms)
        sorted_out = await openings.sort_out(account, requests, obstacles, ledger)
        places = list({id(each): each for each in sorted_out if isinstance(each, openings.Place)}.values())
        opened = await tx.incoming.open(await in_turns(partial(_opening, site, account), places))
    written = {upload.name: upload for upload in opened}
    answers = [written[each.request.name] if isinstance(each, openings.Place) else each for each in sorted_out]
    return answers, {upload.uuid for upload in opened}


def _opening(site: Site, account: Account, place: openings.Place) -> Opening:
    request = place.request
    return Opening(
        uuid=str(uuid.uuid4()),
        arrival=Arrival.UPLOAD,
        peer_id=None,
        account=account.name,
        name=request.name,
        kind=request.kind,
        size=request.size,
        checksum=request.checksum,
        uploader=account.name,
        origin=site.name,
        file_created_at=None,
        store=place.allotment.store,
        token=Token.mint(),
        reserved=place.allotment.reserved,
    )


async def _make_directories(site: Site, answers: list[Answer], new: set[str]) -> list[Answer]:
    wanted: dict[StoreName, list[Incoming]] = {}
    for answer in answers:
        if isinstance(answer, Incoming) and answer.state in OPEN:
            wanted.setdefault(answer.store, []).append(answer)
    refused: dict[str, LibrarianError] = {}
    for name, uploads in wanted.items():
        try:
            await site.stores.lookup(name).stage([upload.token for upload in uploads])
        except LibrarianError as error:
            # What was under way before may have its bytes there: a store that may come back is no end of it.
            is_passing = isinstance(error, Unavailable)
            await _fail(site, [upload for upload in uploads if upload.uuid in new or not is_passing], error)
            refused |= {upload.uuid: error for upload in uploads}
    return [refused.get(each.uuid, each) if isinstance(each, Incoming) else each for each in answers]


async def _fail(site: Site, uploads: Sequence[Incoming], error: LibrarianError) -> None:
    async with site.catalog.begin() as tx:
        await tx.claims.fail([Failure(id=each.id, code=error.code, reason=error.message) for each in uploads])


async def commit_uploads(site: Site, account: Account, commits: Sequence[Commit]) -> list[Answer]:
    """Hand uploads whose bytes are all there to ingest, and answer in order with how they stand then.

    A repeat changes nothing, and answers with the upload as it stands by then.

    Returns
    -------
    Per commit the upload, or why not: NotFound, NameBusy (somebody is still writing), WrongState (cancelled),
    BadChecksum (none at open nor here, two that differ, or not one of that kind).
    """
    async with site.writers.hold_free([commit.uuid for commit in commits]) as free, site.catalog.begin() as tx:
        moved = await tx.incoming.commit([each for each in commits if each.uuid in free], account=_owner(account))
        answers: dict[str, Answer] = {upload.uuid: upload for upload in moved}
        rest = [commit for commit in commits if commit.uuid not in answers]
        found = {upload.uuid: upload for upload in await tx.incoming.with_uuids([each.uuid for each in rest])}
    guard.step("STAGED")
    if moved:
        site.bells.ring(INGEST_BELL)
    for commit in rest:
        answers[commit.uuid] = _why_not(account, commit, found.get(commit.uuid), is_free=commit.uuid in free)
    return [answers[commit.uuid] for commit in commits]


def _why_not(account: Account, commit: Commit, upload: Incoming | None, *, is_free: bool) -> Answer:
    if upload is None or not may_see(account, upload):
        return _unknown(commit.uuid)
    if upload.state is TransferState.CANCELLED:
        return WrongState(f"the upload of {upload.name!r} was cancelled", remedy="Open a new upload.")
    given, known = commit.checksum, upload.checksum
    if given is not None and known is not None and given != known:
        return BadChecksum(f"{known} was promised before, not {given}", remedy="Cancel the upload and open another.")
    if upload.state not in OPEN:
        return upload
    if not is_free:
        return NameBusy(f"somebody is still writing to upload {upload.uuid}", remedy="Commit when the last PUT ended.")
    try:
        openings.check_kind(upload.kind, given or known)
    except BadChecksum as error:
        return error
    return BadChecksum("no checksum came with the upload", remedy="Give one when opening or when committing.")


def _owner(account: Account) -> str | None:
    return None if Role.ADMIN in account.roles else account.name


def may_see(account: Account, upload: Incoming) -> bool:
    """Whether *account* may look at and act on *upload*: it is its own, or an administrator's to look after."""
    return upload.arrival is Arrival.UPLOAD and (Role.ADMIN in account.roles or upload.account == account.name)


def _unknown(id_: str) -> NotFound:
    return NotFound(f"no upload of yours has the id {id_}", remedy="Use the id that opening the upload gave.")


async def describe(site: Site, account: Account, id_: str) -> Incoming:
    """The upload *id_* as it stands; raises NotFound when there is none that *account* may see."""
    async with site.catalog.read() as tx:
        return await find(tx, account, id_)


async def find(tx: Transaction, account: Account, id_: str) -> Incoming:
    """The upload *id_*, within a transaction; raises NotFound when there is none that *account* may see."""
    found = await tx.incoming.with_uuids([id_])
    if not found or not may_see(account, found[0]):
        raise _unknown(id_)
    return found[0]


async def cancel(site: Site, account: Account, id_: str) -> Incoming:
    """Give up the upload *id_*: stop who writes to it, free its name, clear its staging. A repeat changes nothing.

    Raises
    ------
    NotFound
        There is none that *account* may see.
    NameBusy
        A request that is writing to it does not stop.
    WrongState
        It is being ingested, or has ended otherwise.
    """
    async with site.writers.hold(id_, patience=timedelta(0)):
        async with site.catalog.begin() as tx:
            upload = await find(tx, account, id_)
            if upload.state is TransferState.CANCELLED:
                return upload
            if not await tx.incoming.cancel([upload.id]):
                raise WrongState(
                    f"the upload of {upload.name!r} is {upload.state}",
                    remedy="What is being ingested or has ended cannot be cancelled.",
                    details={"state": upload.state},
                )
            await tx.events.tell([Happening(subject=upload.name, what="upload cancelled", who=account.name)])
        await clear(site, [upload])
    cancelled = replace(upload, state=TransferState.CANCELLED, has_staging=False)
    tell(site, [cancelled])
    return cancelled


def tell(site: Site, ended: Iterable[Incoming]) -> None:
    """Tell the requests that wait for uploads how they ended, which is written down.

    Nobody waits for a clone, and its UUID is its peer's choice: it may be the one of somebody's upload.
    """
    site.news.tell({each.uuid: each for each in ended if each.arrival is Arrival.UPLOAD})


async def clear(site: Site, ended: Sequence[Incoming]) -> None:
    """Remove the staging of *ended* transfers; what cannot be removed now is left to housekeeping."""
    by_store: dict[StoreName, list[Incoming]] = {}
    for each in ended:
        by_store.setdefault(each.store, []).append(each)
    gone: list[Incoming] = []
    for name, transfers in by_store.items():
        if name not in site.stores or (store := site.stores.lookup(name)).problem is not None:
            continue
        try:
            left = set(await store.clear([each.token for each in transfers]))
        except CallerError:
            raise
        except LibrarianError:
            continue
        gone += [each for each in transfers if each.token not in left]
    if gone:
        async with site.catalog.begin() as tx:
            await tx.claims.staging_cleared([each.id for each in gone])


async def wait_until_settled(
    site: Site, ids: Sequence[str], timeout: timedelta, *, watch: Watch[Incoming] | None = None
) -> dict[str, Incoming]:
    """The uploads *ids* once all have ended, or as they stand after *timeout*; unknown ids are absent.

    *watch*: ``site.news.expect(ids)``, begun before something that settles them did; it saves a look at the start.
    """
    if watch is None:
        with site.news.expect(ids) as watch:
            stand = await _look(site, ids)
            waiting = [id_ for id_, upload in stand.items() if upload.state in LIVE]
            return stand | await wait_until_settled(site, waiting, timeout, watch=watch)
    heard = await watch.heard_of(ids, within=timeout)
    return heard | await _look(site, [id_ for id_ in ids if id_ not in heard])


async def _look(site: Site, ids: Sequence[str]) -> dict[str, Incoming]:
    if not ids:
        return {}
    async with site.catalog.read() as tx:
        return {upload.uuid: upload for upload in await tx.incoming.with_uuids(ids)}
