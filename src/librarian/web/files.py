"""Finding files and telling about them: search, describe, the members of a book."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from librarian.catalog.queries import FileQuery, Order, Position
from librarian.checksum import unpack_members
from librarian.errors import BadName, BadRequest, NotFound
from librarian.globs import Glob
from librarian.names import FileName
from librarian.states import Kind, Role
from librarian.web.route import Answer, Call, Route
from librarian.wire import cursors, files
from librarian.wire.base import in_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from librarian.catalog.files import Listing
    from librarian.catalog.records import CopyDueRecord, File, Happening, InstanceRecord, RemoteInstanceRecord
    from librarian.checksum import Algorithm, MemberDigest
    from librarian.site import Site

READERS: Final = frozenset({Role.READER})


@dataclass(frozen=True, kw_only=True)
class _Known:
    """Everything the catalog says about one file."""

    file: File
    instances: tuple[InstanceRecord, ...]
    remote_instances: tuple[RemoteInstanceRecord, ...]
    copies_due: tuple[CopyDueRecord, ...]
    story: tuple[Happening, ...]
    listing: Listing | None


def named_file(request: web.Request) -> FileName:
    """The name in the path.

    Raises
    ------
    NotFound
        No file can have such a name.
    """
    try:
        return FileName(request.match_info["name"])
    except BadName as error:
        raise NotFound(f"no file has such a name: {error.message}", remedy="Search for the name.") from error


def unknown(name: str) -> NotFound:
    """That nothing of that *name* is held."""
    return NotFound(f"no file is named {name!r}", remedy="Search for a part of the name, such as '*part*'.")


def _query_of(query: files.FilesQuery) -> FileQuery:
    glob = Glob(query.match) if query.match is not None else None
    usual = Order.NAME if glob is not None and glob.prefix else Order.NEWEST
    return FileQuery(
        glob=glob,
        since=query.since,
        until=query.until,
        uploader=query.uploader,
        origin=query.origin,
        store=query.store,
        kind=Kind(query.kind) if query.kind else None,
        min_size=query.min_size,
        max_size=query.max_size,
        order=Order(query.order) if query.order else usual,
    )


def _position(question: str, cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    at, row_id, name = cursors.read_cursor(question, cursor, (str, int, str))
    try:
        return Position(created_at=in_utc(datetime.fromisoformat(str(at))), id=int(row_id), name=FileName(str(name)))
    except (ValueError, BadName) as error:
        raise BadRequest("the cursor is damaged", remedy="Start again without it.") from error


async def search_files(call: Call[None, files.FilesQuery]) -> Answer:
    """Find files: a page in the order asked for, and where the next one begins."""
    query = _query_of(call.query)
    question = f"files {query}"
    after = _position(question, call.query.cursor)
    async with call.site.catalog.read() as tx:
        found = await tx.search.find(query, after=after, limit=call.query.limit)
    end = found.next_after
    return Answer(
        body=files.FilePage(
            files=[_summary(file) for file in found.files],
            next_cursor=None
            if end is None
            else cursors.write_cursor(question, (end.created_at.isoformat(), end.id, end.name)),
        )
    )


def _summary(file: File) -> files.FileSummary:
    # Rows were checked when they were written; checking them again costs more than reading them.
    return files.FileSummary.model_construct(
        name=file.name,
        kind=file.kind,
        size=file.size,
        checksum=file.checksum,
        uploader=file.uploader,
        origin=file.origin,
        created_at=file.created_at,
    )


async def describe_file(call: Call[None, None]) -> Answer:
    """Tell everything about one file: its copies with their paths, what it still owes, and its story."""
    name = named_file(call.request)
    async with call.site.catalog.read() as tx:
        file = (await tx.files.named([name])).get(name)
        if file is None:
            raise unknown(name)
        known = _Known(
            file=file,
            instances=await tx.instances.of_files([file.id]),
            remote_instances=await tx.remote_instances.of_files([file.id]),
            copies_due=await tx.copies_due.of_files([file.id]),
            story=await tx.events.story_of(name),
            listing=await tx.files.listing_of(file.id) if file.kind is Kind.BOOK else None,
        )
    return Answer(body=_description(call.site, known))


def _description(site: Site, known: _Known) -> files.FileDescription:
    return files.FileDescription(
        **_summary(known.file).model_dump(),
        instances=[
            files.Instance(
                store=each.store,
                path=_path_of(site, each, known.file.name),
                presence=each.presence,
                intent=each.intent,
                verified_at=each.verified_at,
                verified_from=each.verified_from,
            )
            for each in known.instances
        ],
        remote_instances=[
            files.RemoteInstance(peer=each.peer, store=each.store, attested_at=each.attested_at)
            for each in known.remote_instances
        ],
        copies_due=[
            files.CopyDue(
                rule=each.rule,
                peer=each.peer,
                state=each.state,
                attempts=each.attempts,
                next_try_at=each.next_try_at,
                reason=each.reason,
            )
            for each in known.copies_due
        ],
        story=[
            files.Event(at=each.at, what=each.what, who=each.who, why=each.why)
            for each in known.story
            if each.at is not None
        ],
        member_count=known.listing.count if known.listing else None,
    )


def _path_of(site: Site, instance: InstanceRecord, name: FileName) -> str | None:
    store = {each.name: each for each in site.stores.all()}.get(instance.store)
    return None if store is None else str(store.path_of(name))


async def list_members(call: Call[None, files.MembersQuery]) -> Answer:
    """The members of a book, in the order of their paths."""
    name = named_file(call.request)
    question = f"members {name}"
    after = None
    if call.query.cursor is not None:
        after = str(cursors.read_cursor(question, call.query.cursor, (str,))[0])
    async with call.site.catalog.read() as tx:
        file = (await tx.files.named([name])).get(name)
        if file is None:
            raise unknown(name)
        listing = await tx.files.listing_of(file.id)
    if listing is None:
        raise NotFound(f"{name!r} is a file, not a book", remedy="Only books have members.")
    members = await asyncio.to_thread(members_by_path, listing.packed)
    page, end = _members_page(members, after, algorithm=file.checksum.algorithm, limit=call.query.limit)
    return Answer(
        body=files.MemberPage(
            members=list(page), next_cursor=None if end is None else cursors.write_cursor(question, (end,))
        )
    )


def members_by_path(packed: bytes) -> list[MemberDigest]:
    """The members of a listing, sorted by path; 100,000 of them take a quarter of a second, hence off the loop."""
    return sorted(unpack_members(packed), key=_written_path)


def _written_path(member: MemberDigest) -> str:
    return f"{member.path}/" if member.hex is None else member.path


def _members_page(
    members: Sequence[MemberDigest], after: str | None, *, algorithm: Algorithm, limit: int
) -> tuple[list[files.Member], str | None]:
    start = 0 if after is None else bisect_right(members, after, key=_written_path)
    page = [
        files.Member.model_construct(
            path=_written_path(each), size=each.size, checksum=None if each.hex is None else f"{algorithm}:{each.hex}"
        )
        for each in members[start : start + limit]
    ]
    return page, page[-1].path if start + limit < len(members) else None


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api/v1/files",
        handler=search_files,
        summary="Search files",
        roles=READERS,
        query=files.FilesQuery,
        answer=files.FilePage,
        refusals=(BadRequest,),
        tag="files",
    ),
    Route(
        method="GET",
        path="/api/v1/files/{name:.+}",
        handler=describe_file,
        summary="Describe a file",
        roles=READERS,
        answer=files.FileDescription,
        refusals=(NotFound,),
        tag="files",
    ),
    Route(
        method="GET",
        path="/api/v1/members/{name:.+}",
        handler=list_members,
        summary="List the members of a book",
        roles=READERS,
        query=files.MembersQuery,
        answer=files.MemberPage,
        refusals=(NotFound, BadRequest),
        tag="files",
    ),
)
