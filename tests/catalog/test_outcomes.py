"""What becomes of copies that fail, on both databases."""

import pytest

from librarian import outcomes
from librarian.catalog.copies_due import Turn
from librarian.catalog.due_totals import due_subject, quarantined_subject
from librarian.catalog.outgoing import Acceptance, NewOutgoing
from librarian.catalog.records import Tally
from librarian.catalog.schema import InstanceRow
from librarian.catalog.stopped import Selection
from librarian.names import StoreName, Token
from librarian.states import DueState, TransferState
from librarian.timing import utc_now
from tests.catalog.test_copies_due import arrive, has_files, has_rule, tx

__all__ = ["tx"]

UUID = "0b0e7a3e-7c6e-4f1e-9d56-6b1d9a6d1f00"


@pytest.fixture
async def owed(tx):
    """Three files that are due at nersc; gives their ids."""
    await has_rule(tx)
    names = ["a", "b", "c"]
    ids = await has_files(tx, *names)
    await arrive(tx, ids, names)
    return ids


def failure(file_id, *, code="checksum_mismatch", reason="other bytes came"):
    return outcomes.Failed(file_id=file_id, name="a", code=code, reason=reason, is_own=outcomes.is_own(code))


async def fails(tx, *failures, most=3):
    return await outcomes.record_failures(tx, await tx.peers.get("nersc"), failures, most=most)


async def states(tx, ids):
    return [due.state for due in await tx.copies_due.of_files(ids)]


async def totals(tx):
    peer = await tx.peers.get("nersc")
    return await tx.tallies.of(due_subject(peer.id)), await tx.tallies.of(quarantined_subject(peer.id))


async def test_what_failed_is_due_again_later_each_time_with_its_reason(tx, owed):
    first = await fails(tx, failure(owed[0]))
    for _ in range(6):
        last = await fails(tx, failure(owed[0]), most=100)

    (due,) = await tx.copies_due.of_files(owed[:1])
    assert (due.state, due.attempts, due.failures) == (DueState.DUE, 7, 7)
    assert (due.code, due.reason) == ("checksum_mismatch", "other bytes came")
    assert last - first > (first - due.created_at) * 10


async def test_what_fails_of_itself_again_and_again_goes_into_quarantine_alone(tx, owed):
    for _ in range(3):
        await fails(tx, failure(owed[0]))

    assert await states(tx, owed) == [DueState.QUARANTINED, DueState.DUE, DueState.DUE]
    assert await totals(tx) == (Tally(files=2, bytes=20), Tally(files=1, bytes=10))
    (due,) = await tx.copies_due.of_files(owed[:1])
    assert (due.failures, due.code, due.reason) == (3, "checksum_mismatch", "other bytes came")


@pytest.mark.parametrize("code", ["no_room", "store_unavailable", "draining", "throttled", "lease_lapsed", "name_busy"])
async def test_trouble_of_the_peer_puts_nothing_into_quarantine(tx, owed, code):
    for _ in range(5):
        await fails(tx, failure(owed[0], code=code))

    (due,) = await tx.copies_due.of_files(owed[:1])
    assert (due.state, due.attempts, due.failures) == (DueState.DUE, 5, 0)


async def test_quarantine_raises_one_alert_for_a_peer_however_many_are_in_it(tx, owed):
    await fails(tx, failure(owed[0]), failure(owed[1]), most=1)
    await fails(tx, failure(owed[2]), most=1)

    (alert,) = await tx.alerts.open_ones()
    assert (alert.cause, alert.count) == ("peer:nersc:quarantine", 2)
    assert "other bytes came" in alert.message
    assert "transfer retry --peer nersc" in alert.remedy


async def test_quarantine_is_left_by_no_turn(tx, owed):
    await fails(tx, failure(owed[0]), most=1)
    peer = await tx.peers.get("nersc")

    await tx.copies_due.turn(peer.id, [Turn(file_id=owed[0], state=DueState.SENDING, next_try_at=utc_now())])

    assert await states(tx, owed[:1]) == [DueState.QUARANTINED]


async def test_what_is_put_into_quarantine_while_the_receiver_waits_for_it_is_cancelled_there(tx, owed):
    peer = await tx.peers.get("nersc")
    await tx.outgoing.open(peer.id, [NewOutgoing(uuid=UUID, file_id=owed[0], size=10)])
    taken = Acceptance(uuid=UUID, token=Token("a" * 32), store=StoreName("fast"), batch_id=None)
    await tx.outgoing.accept([taken])

    await fails(tx, failure(owed[0]), most=1)

    told = await tx.outbox.waiting(peer.id, now=utc_now(), limit=10)
    assert [(note.subject, note.state) for note in told] == [(UUID, "cancelled")]
    assert (await tx.outgoing.find(UUID)).state is TransferState.FAILED


async def test_what_is_held_after_all_leaves_quarantine_and_its_total(tx, owed):
    await fails(tx, failure(owed[0]), most=1)
    peer = await tx.peers.get("nersc")

    await tx.copies_due.paid(peer.id, owed[:1])

    assert await states(tx, owed[:1]) == []
    assert await totals(tx) == (Tally(files=2, bytes=20), Tally(files=0, bytes=0))


async def test_a_retry_takes_up_what_was_chosen_as_if_it_were_new(tx, owed):
    await fails(tx, failure(owed[0]), failure(owed[1]), most=1)

    counted = await tx.stopped.count(Selection(files=(owed[0],)))
    retried = await tx.stopped.retry(Selection(files=(owed[0],)))

    assert (counted, retried) == (1, 1)
    assert await states(tx, owed) == [DueState.DUE, DueState.QUARANTINED, DueState.DUE]
    assert await totals(tx) == (Tally(files=2, bytes=20), Tally(files=1, bytes=10))
    (due,) = await tx.copies_due.of_files(owed[:1])
    assert (due.attempts, due.failures, due.reason) == (0, 0, None)


async def test_a_retry_of_everything_takes_up_quarantined_blocked_and_waiting_copies(tx, owed):
    peer = await tx.peers.get("nersc")
    await fails(tx, failure(owed[0]), most=1)
    await fails(tx, failure(owed[1]))
    await tx.copies_due.turn(peer.id, [Turn(file_id=owed[2], state=DueState.BLOCKED, next_try_at=utc_now())])

    retried = await tx.stopped.retry(Selection(peer=peer.id))

    assert retried == 3
    assert await states(tx, owed) == [DueState.DUE] * 3
    assert all(due.next_try_at <= utc_now() for due in await tx.copies_due.of_files(owed))


async def test_a_retry_hurries_nothing_that_has_not_failed(tx, owed):
    assert await tx.stopped.retry(Selection()) == 0


async def test_stopped_copies_are_listed_page_by_page(tx, owed):
    await fails(tx, *[failure(each) for each in owed], most=1)

    first = await tx.stopped.page(after=None, peer=None, states=(), limit=2)
    second = await tx.stopped.page(
        after=(first[-1].file_id, first[-1].rule_id), peer=None, states=[DueState.QUARANTINED], limit=2
    )
    blocked = await tx.stopped.page(after=None, peer=None, states=[DueState.BLOCKED], limit=2)

    assert [copy.name for copy in (*first, *second)] == ["a", "b", "c"]
    assert (first[0].peer, first[0].rule, first[0].code) == ("nersc", "all", "checksum_mismatch")
    assert blocked == ()


async def test_a_copy_that_was_blocked_is_woken_when_a_source_is_seen(tx, owed):
    peer = await tx.peers.get("nersc")
    turns = [Turn(file_id=each, state=DueState.BLOCKED, next_try_at=utc_now()) for each in owed]
    await tx.copies_due.turn(peer.id, turns)
    await tx._connection.execute(InstanceRow.__table__.delete().where(InstanceRow.file_id == owed[0]))

    woken = await tx.stopped.unblock_all()

    assert woken == 2
    assert await states(tx, owed) == [DueState.BLOCKED, DueState.DUE, DueState.DUE]


async def test_a_rule_that_is_switched_off_leaves_nothing_in_quarantine(tx, owed):
    await fails(tx, failure(owed[0]), most=1)
    rule = await tx.rules.find("all")

    await tx.copies_due.waive(rule.id)

    assert await totals(tx) == (Tally(files=0, bytes=0), Tally(files=0, bytes=0))
