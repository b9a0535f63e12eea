"""Transfers: files on their way, in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian import steering
from librarian.errors import BadRequest, NotFound
from librarian.names import FileId, RuleId, TransferId
from librarian.states import DueState, Role
from librarian.web import refusals
from librarian.web.route import Answer, Call, Route
from librarian.wire.cursors import read_cursor, write_cursor
from librarian.wire.transfers import (
    CancelTransfers,
    CopiesRetried,
    RetryCopies,
    StoppedDue,
    StoppedPage,
    StoppedQuery,
    Transfer,
    TransferCancelled,
    TransferPage,
    TransferQuery,
    TransfersCancelled,
)

if TYPE_CHECKING:
    from librarian.catalog.records import Batch, Incoming, Outgoing, StoppedCopy
    from librarian.catalog.transaction import Transaction
    from librarian.names import BatchId, PeerId

_ADMIN: Final = frozenset({Role.ADMIN})


async def list_transfers(call: Call[None, TransferQuery]) -> Answer:
    """Transfers one way, newest first, page by page."""
    query = call.query
    question = f"transfers {query.way} {query.peer} {query.state}"
    before: TransferId | None = None
    if query.cursor is not None:
        (last,) = read_cursor(question, query.cursor, (int,))
        before = TransferId(int(last))
    async with call.site.catalog.read() as tx:
        peer = None if query.peer is None else (await tx.peers.get(query.peer)).id
        if query.way == "out":
            page, last_id = await _outgoing(tx, query, before=before, peer=peer)
        else:
            page, last_id = await _incoming(tx, query, before=before, peer=peer)
    cursor = None if last_id is None else write_cursor(question, [last_id])
    return Answer(body=TransferPage(transfers=page, next_cursor=cursor))


async def _outgoing(
    tx: Transaction, query: TransferQuery, *, before: TransferId | None, peer: PeerId | None
) -> tuple[list[Transfer], TransferId | None]:
    states = [] if query.state is None else [query.state]
    found = await tx.outgoing.page(before=before, peer=peer, states=states, limit=query.limit)
    batches = await tx.batches.with_ids([t.batch_id for t in found if t.batch_id is not None])
    names = {p.id: p.name for p in (await tx.peers.with_ids([t.peer_id for t in found])).values()}
    page = [_out(t, names[t.peer_id], batches) for t in found]
    return page, found[-1].id if len(found) == query.limit else None


async def _incoming(
    tx: Transaction, query: TransferQuery, *, before: TransferId | None, peer: PeerId | None
) -> tuple[list[Transfer], TransferId | None]:
    states = [] if query.state is None else [query.state]
    found = await tx.offers.page(before=before, peer=peer, states=states, limit=query.limit)
    wanted = [t.peer_id for t in found if t.peer_id is not None]
    names = {p.id: p.name for p in (await tx.peers.with_ids(wanted)).values()}
    page = [_in(t, None if t.peer_id is None else names[t.peer_id]) for t in found]
    return page, found[-1].id if len(found) == query.limit else None


def _out(transfer: Outgoing, peer: str, batches: dict[BatchId, Batch]) -> Transfer:
    batch = None if transfer.batch_id is None else batches.get(transfer.batch_id)
    return Transfer(
        uuid=transfer.uuid,
        way="out",
        peer=peer,
        name=transfer.name,
        kind=transfer.kind,
        size=transfer.size,
        checksum=transfer.checksum,
        state=transfer.state,
        store=transfer.store,
        engine=batch.engine if batch else None,
        code=transfer.code,
        reason=transfer.reason or (batch.reason if batch else None),
        created_at=transfer.created_at,
        progressed_at=transfer.progressed_at,
    )


def _in(transfer: Incoming, peer: str | None) -> Transfer:
    return Transfer(
        uuid=transfer.uuid,
        way="in",
        peer=peer,
        name=transfer.name,
        kind=transfer.kind,
        size=transfer.size,
        checksum=transfer.checksum,
        state=transfer.state,
        store=transfer.store,
        code=transfer.code,
        reason=transfer.reason,
        created_at=transfer.created_at,
        progressed_at=transfer.progressed_at,
    )


async def show_transfer(call: Call[None, None]) -> Answer:
    """One transfer, whichever way it goes."""
    uuid = call.request.match_info["uuid"]
    async with call.site.catalog.read() as tx:
        outgoing = await tx.outgoing.find(uuid)
        if outgoing is not None:
            batches = await tx.batches.with_ids([] if outgoing.batch_id is None else [outgoing.batch_id])
            peers = await tx.peers.with_ids([outgoing.peer_id])
            return Answer(body=_out(outgoing, peers[outgoing.peer_id].name, batches))
        incoming = await tx.offers.find(uuid)
        if incoming is None:
            raise NotFound(f"no transfer has the uuid {uuid[:80]!r}", remedy="List the transfers.")
        peer = None if incoming.peer_id is None else (await tx.peers.with_ids([incoming.peer_id]))[incoming.peer_id]
    return Answer(body=_in(incoming, peer.name if peer else None))


async def list_stopped(call: Call[None, StoppedQuery]) -> Answer:
    """Copies that go no further by themselves, by file, page by page."""
    query = call.query
    question = f"stopped {query.peer} {query.state}"
    after: tuple[FileId, RuleId] | None = None
    if query.cursor is not None:
        file_id, rule_id = read_cursor(question, query.cursor, (int, int))
        after = (FileId(int(file_id)), RuleId(int(rule_id)))
    async with call.site.catalog.read() as tx:
        peer = None if query.peer is None else (await tx.peers.get(query.peer)).id
        states = [] if query.state is None else [DueState(query.state)]
        found = await tx.stopped.page(after=after, peer=peer, states=states, limit=query.limit)
    is_last = len(found) < query.limit
    cursor = None if is_last else write_cursor(question, [found[-1].file_id, found[-1].rule_id])
    return Answer(body=StoppedPage(copies=[_stopped(copy) for copy in found], next_cursor=cursor))


def _stopped(copy: StoppedCopy) -> StoppedDue:
    return StoppedDue(
        name=copy.name,
        peer=copy.peer,
        rule=copy.rule,
        size=copy.size,
        state=copy.state,
        attempts=copy.attempts,
        code=copy.code,
        reason=copy.reason,
        since=copy.since,
    )


async def retry_copies(call: Call[RetryCopies, None]) -> Answer:
    """Let copies that stopped, or wait after a failure, go on at once."""
    body = call.body
    if not body.names and body.peer is None and not body.all:
        raise BadRequest("nothing says which copies", remedy="Give 'names', 'peer' or 'all'.")
    copies = await steering.retry(call.site, call.caller, names=body.names, peer_name=body.peer, dry_run=body.dry_run)
    return Answer(body=CopiesRetried(copies=copies, is_dry_run=body.dry_run))


async def cancel_transfers(call: Call[CancelTransfers, None]) -> Answer:
    """End transfers, whichever way they go; the other site is told."""
    body = call.body
    ordered = await steering.cancel(call.site, call.caller, body.uuids, peer_name=body.peer, dry_run=body.dry_run)
    return Answer(
        body=TransfersCancelled(
            transfers=[
                TransferCancelled(
                    uuid=each.uuid,
                    way=None if each.way is None else each.way.value,
                    name=each.name,
                    problem=None if each.refusal is None else refusals.problem_of(each.refusal),
                )
                for each in ordered
            ],
            is_dry_run=body.dry_run,
        )
    )


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/transfers",
        handler=list_transfers,
        summary="Transfers one way, newest first",
        roles=_ADMIN,
        query=TransferQuery,
        answer=TransferPage,
        refusals=(NotFound,),
        tag="transfers",
    ),
    Route(
        method="GET",
        path="/api/v1/transfers/stopped",
        handler=list_stopped,
        summary="Copies due that go no further by themselves",
        roles=_ADMIN,
        query=StoppedQuery,
        answer=StoppedPage,
        refusals=(NotFound,),
        tag="transfers",
    ),
    Route(
        method="POST",
        path="/api/v1/transfers/retry",
        handler=retry_copies,
        summary="Let stopped and waiting copies go on at once",
        roles=_ADMIN,
        body=RetryCopies,
        answer=CopiesRetried,
        refusals=(NotFound,),
        tag="transfers",
    ),
    Route(
        method="POST",
        path="/api/v1/transfers/cancel",
        handler=cancel_transfers,
        summary="End transfers, whichever way they go",
        roles=_ADMIN,
        body=CancelTransfers,
        answer=TransfersCancelled,
        refusals=(NotFound,),
        tag="transfers",
    ),
    Route(
        method="GET",
        path="/api/v1/transfers/{uuid}",
        handler=show_transfer,
        summary="One transfer",
        roles=_ADMIN,
        answer=Transfer,
        refusals=(NotFound,),
        tag="transfers",
    ),
)
