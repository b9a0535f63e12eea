"""Incoming transfers: opened once, moved only where their table allows, claimed and given back."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from librarian.catalog.database import Catalog
from librarian.catalog.incoming_rows import Commit, Completion, Delay, Failure, Opening, Seen
from librarian.catalog.schema import StoreRow
from librarian.checksum import Checksum
from librarian.names import FileName, StoreName, Token
from librarian.states import INCOMING_MOVES, LIVE, Arrival, Kind, TransferState
from librarian.timing import utc_now

SUM = Checksum("xxh3:" + "0" * 32)
OTHER = Checksum("xxh3:" + "1" * 32)


@pytest.fixture
async def catalog(database_url):
    async with Catalog(database_url) as catalog:
        async with catalog.begin() as tx:
            for name in ("fast", "slow"):
                await tx._connection.execute(
                    insert(StoreRow).values(name=name, uuid=name, kind="local", is_open=True, created_at=utc_now())
                )
        yield catalog


def opening(name: str, *, size=10, store="fast", checksum=None, kind=Kind.FILE, account="ana") -> Opening:
    return Opening(
        uuid=str(uuid4()),
        arrival=Arrival.UPLOAD,
        peer_id=None,
        account=account,
        name=FileName(name),
        kind=kind,
        size=size,
        checksum=checksum,
        uploader=account,
        origin="here",
        file_created_at=None,
        store=StoreName(store),
        token=Token.mint(),
        reserved=size,
    )


async def opened(catalog, *openings: Opening):
    async with catalog.begin() as tx:
        return await tx.incoming.open(openings)


async def staged(catalog, *names: str, size=10):
    transfers = await opened(catalog, *(opening(name, size=size) for name in names))
    async with catalog.begin() as tx:
        return await tx.incoming.commit([Commit(uuid=each.uuid, checksum=SUM) for each in transfers], account="ana")


async def claimed(catalog, *names: str):
    transfers = await staged(catalog, *names)
    async with catalog.begin() as tx:
        return await tx.claims.claim([each.id for each in transfers])


async def read(catalog, transfer):
    async with catalog.read() as tx:
        (found,) = await tx.incoming.with_uuids([transfer.uuid])
    return found


async def test_what_was_opened_reads_back_as_it_was_answered(catalog):
    (transfer,) = await opened(catalog, opening("2026/ä", checksum=SUM))

    assert await read(catalog, transfer) == transfer


async def test_a_live_name_cannot_be_opened_twice_whatever_the_caller_overlooked(catalog):
    await opened(catalog, opening("a"))

    with pytest.raises(IntegrityError):
        await opened(catalog, opening("a"))


async def test_many_keep_their_order(catalog):
    names = [f"n/{number}" for number in range(300)]

    assert [each.name for each in await opened(catalog, *map(opening, names))] == names


async def test_a_store_counts_what_it_promised_to_live_transfers_alone(catalog):
    one, _, _ = await opened(catalog, opening("a", size=5), opening("b", size=7), opening("c", size=1, store="slow"))
    async with catalog.begin() as tx:
        await tx.incoming.cancel([one.id])

        assert {shelf.store: shelf.reserved for shelf in await tx.incoming.shelves()} == {"fast": 7, "slow": 1}


async def test_a_commit_moves_only_what_is_open_has_a_checksum_and_belongs_to_the_caller(catalog):
    transfers = await opened(
        catalog,
        opening("fits"),
        opening("with", checksum=SUM),
        opening("without"),
        opening("differs", checksum=OTHER),
        opening("others", account="ben"),
        opening("book", kind=Kind.BOOK),
        opening("cancelled"),
    )
    given = {"fits": SUM, "with": None, "without": None, "differs": SUM, "others": SUM, "book": SUM, "cancelled": SUM}
    async with catalog.begin() as tx:
        await tx.incoming.cancel([transfers[-1].id])
        moved = await tx.incoming.commit(
            [Commit(uuid=each.uuid, checksum=given[each.name]) for each in transfers], account="ana"
        )

    assert {(each.name, each.state, each.checksum) for each in moved} == {
        ("fits", TransferState.STAGED, SUM),
        ("with", TransferState.STAGED, SUM),
    }


async def test_an_administrator_commits_for_others(catalog):
    (transfer,) = await opened(catalog, opening("a", account="ben"))
    async with catalog.begin() as tx:
        assert len(await tx.incoming.commit([Commit(uuid=transfer.uuid, checksum=SUM)], account=None)) == 1


@pytest.mark.parametrize("target", list(TransferState))
async def test_a_transfer_moves_only_where_the_table_allows(catalog, target):
    (transfer,) = await opened(catalog, opening("a"))
    async with catalog.begin() as tx:
        moved = await tx.incoming.advance([transfer.id], to=target)

    assert bool(moved) is (target in INCOMING_MOVES[TransferState.INITIATED])


async def test_candidates_are_those_that_wait_longest_and_are_due(catalog):
    first, second, late = await claimed(catalog, "a", "b", "c")
    now = utc_now()
    async with catalog.begin() as tx:
        await tx.claims.release(
            [
                Delay(id=first.id, until=now - timedelta(seconds=1), code="x", reason="x"),
                Delay(id=second.id, until=now - timedelta(seconds=9), code="x", reason="x"),
                Delay(id=late.id, until=now + timedelta(hours=1), code="x", reason="x"),
            ]
        )

        assert [each.id for each in await tx.claims.candidates(now=now, limit=9)] == [second.id, first.id]


async def test_candidates_that_nobody_could_take_are_left_out(catalog):
    await staged(catalog, "small", size=10)
    (large,) = await staged(catalog, "large", size=1000)
    async with catalog.read() as tx:
        found = await tx.claims.candidates(now=utc_now(), limit=9, except_for=[(StoreName("fast"), 0, 1000)])

    assert [each.id for each in found] == [large.id]


async def test_what_is_claimed_is_not_claimed_again(catalog):
    (transfer,) = await claimed(catalog, "a")
    async with catalog.begin() as tx:
        assert await tx.claims.claim([transfer.id]) == []


async def test_what_is_given_back_says_why_and_counts_what_is_suspicious(catalog):
    (transfer,) = await claimed(catalog, "a")
    async with catalog.begin() as tx:
        await tx.claims.release(
            [Delay(id=transfer.id, until=utc_now(), code="bug", reason="broken", is_suspicious=True)]
        )

    after = await read(catalog, transfer)
    assert (after.state, after.attempts, after.code, after.reason) == (TransferState.STAGED, 1, "bug", "broken")


async def test_claims_of_the_dead_are_taken_back(catalog):
    await claimed(catalog, "a", "b")
    await opened(catalog, opening("c"))
    async with catalog.begin() as tx:
        assert await tx.claims.take_back() == 2
        assert len(await tx.claims.candidates(now=utc_now(), limit=9)) == 2


async def test_a_completed_transfer_stays_completed(catalog):
    (transfer,) = await claimed(catalog, "a")
    async with catalog.begin() as tx:
        await tx.claims.complete([Completion(id=transfer.id, has_staging=False)])
        failed = await tx.claims.fail([Failure(id=transfer.id, code="late", reason="too late")])

    assert failed == set()
    assert (await read(catalog, transfer)).state is TransferState.COMPLETED


async def test_a_failed_transfer_keeps_its_reason_and_frees_its_name(catalog):
    (transfer,) = await claimed(catalog, "a")
    async with catalog.begin() as tx:
        await tx.claims.fail([Failure(id=transfer.id, code="checksum_mismatch", reason="it differs")])

    after = await read(catalog, transfer)
    assert (after.state, after.code, after.reason) == (TransferState.FAILED, "checksum_mismatch", "it differs")
    assert await opened(catalog, opening("a"))


async def test_ended_transfers_with_staging_are_to_be_cleared_until_they_are(catalog):
    (done, left, live) = await claimed(catalog, "a", "b", "c")
    async with catalog.begin() as tx:
        await tx.claims.complete([Completion(id=done.id, has_staging=False), Completion(id=left.id, has_staging=True)])
        before = await tx.claims.to_clear(after=0, limit=9)
        await tx.claims.staging_cleared([left.id])
        after = await tx.claims.to_clear(after=0, limit=9)

    assert ([each.id for each in before], after) == ([left.id], [])
    assert live.has_staging


async def test_only_news_about_staging_count_as_progress(catalog):
    (transfer,) = await opened(catalog, opening("a", size=10))
    async with catalog.begin() as tx:
        first = await tx.claims.saw([Seen(id=transfer.id, reserved=4)])
        second = await tx.claims.saw([Seen(id=transfer.id, reserved=4)])

    assert (first, second) == ({transfer.id}, set())
    assert (await read(catalog, transfer)).progressed_at > transfer.progressed_at


async def test_only_idle_open_uploads_expire(catalog):
    (open_one,) = await opened(catalog, opening("a"))
    await staged(catalog, "b")
    async with catalog.begin() as tx:
        early = await tx.claims.expire(idle_since=utc_now() - timedelta(hours=1), reason="idle", limit=9)
        spared = await tx.claims.expire(idle_since=utc_now(), reason="idle", limit=9, except_stores=[StoreName("fast")])
        gone = await tx.claims.expire(idle_since=utc_now(), reason="idle", limit=9)

    assert (early, spared, [each.id for each in gone]) == ([], [], [open_one.id])


async def test_every_state_of_the_index_is_a_live_one(catalog):
    assert {state.value for state in LIVE} == {"initiated", "ongoing", "staged", "ingesting"}
