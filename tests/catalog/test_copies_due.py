"""What files owe to rules, and what becomes of it, on both databases."""

from datetime import timedelta

import pytest

from librarian import replication
from librarian.catalog.copies_due import NewDue, Turn
from librarian.catalog.due_totals import due_subject
from librarian.catalog.files import NewFile
from librarian.catalog.instances import NewInstance
from librarian.catalog.outgoing import Acceptance, NewOutgoing
from librarian.catalog.records import Tally
from librarian.catalog.remote_instances import Attestation
from librarian.checksum import Checksum
from librarian.names import FileName, RuleName, SiteName, StoreName, Token
from librarian.policies import RulePolicy
from librarian.replication import Arrived
from librarian.states import BatchState, DueState, Kind, Reach, VerifiedFrom
from librarian.timing import utc_now

CHECKSUM = Checksum("xxh3:" + "0" * 32)


@pytest.fixture
async def tx(site):
    """An open transaction of a site that knows the peer nersc."""
    async with site.catalog.begin() as tx:
        await tx.peers.add(
            SiteName("nersc"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
        )
        yield tx


async def has_files(tx, *names):
    ids = await tx.files.add(
        [
            NewFile(
                name=FileName(name),
                kind=Kind.FILE,
                size=10,
                checksum=CHECKSUM,
                uploader="ana",
                origin="a",
                created_at=utc_now(),
            )
            for name in names
        ]
    )
    await tx.instances.add(
        [
            NewInstance(file_id=id_, store=StoreName("fast"), verified_at=utc_now(), verified_from=VerifiedFrom.CACHE)
            for id_ in ids.values()
        ]
    )
    return [ids[FileName(name)] for name in names]


async def has_rule(tx, name="all", **policy):
    await replication.put_rule(tx, RuleName(name), policy=RulePolicy(peer="nersc", **policy), who="admin")
    return await tx.rules.find(name)


async def arrive(tx, ids, names, *, peer=None):
    await replication.files_arrived(
        tx,
        [
            Arrived(
                file_id=id_,
                name=FileName(name),
                kind=Kind.FILE,
                size=10,
                checksum=CHECKSUM,
                store=StoreName("fast"),
                peer_id=peer,
                is_new=True,
            )
            for id_, name in zip(ids, names, strict=True)
        ],
    )


async def test_a_file_owes_what_matching_rules_ask_and_a_repeat_owes_no_more(tx):
    await has_rule(tx, "all")
    await has_rule(tx, "some", match=("2026/*",))
    names = ["2026/a", "b"]
    ids = await has_files(tx, *names)

    await arrive(tx, ids, names)
    await arrive(tx, ids, names)

    peer = await tx.peers.get("nersc")
    dues = await tx.copies_due.of_files(ids)
    assert sorted((due.file_id, due.rule) for due in dues) == [(ids[0], "all"), (ids[0], "some"), (ids[1], "all")]
    assert await tx.tallies.of(due_subject(peer.id)) == Tally(files=3, bytes=30)


async def test_nothing_is_owed_to_the_peer_that_a_file_came_from(tx):
    await has_rule(tx)
    ids = await has_files(tx, "a")
    peer = await tx.peers.get("nersc")

    await arrive(tx, ids, ["a"], peer=peer.id)

    assert await tx.copies_due.of_files(ids) == ()


async def test_nothing_is_owed_to_a_peer_that_holds_the_file(tx):
    rule = await has_rule(tx)
    (id_,) = await has_files(tx, "a")
    peer = await tx.peers.get("nersc")
    held = Attestation(file_id=id_, store="fast", is_held=True, seq=1)
    await tx.remote_instances.attest(peer.id, [held], epoch=1)

    owed = await tx.copies_due.owe(
        [NewDue(file_id=id_, rule_id=rule.id, way=rule.way, peer_id=peer.id, size=10, not_before=utc_now())]
    )

    assert owed == 0


async def test_a_rule_for_one_store_asks_nothing_of_files_on_another(tx):
    await has_rule(tx, from_store="slow")
    ids = await has_files(tx, "a")

    await arrive(tx, ids, ["a"])

    assert await tx.copies_due.of_files(ids) == ()


async def test_a_young_file_is_not_due_yet(tx):
    rule = await has_rule(tx, min_age=timedelta(hours=1))
    ids = await has_files(tx, "a")
    peer = await tx.peers.get("nersc")

    await arrive(tx, ids, ["a"])

    assert await tx.waiting.peers(utc_now()) == ()
    later = utc_now() + timedelta(hours=2)
    assert await tx.waiting.peers(later) == (peer.id,)
    assert [c.name for c in await tx.waiting.candidates(rule.id, now=later, limit=5)] == ["a"]


async def test_a_turn_changes_every_rules_row_of_the_file(tx):
    await has_rule(tx, "first")
    await has_rule(tx, "second")
    ids = await has_files(tx, "a")
    await arrive(tx, ids, ["a"])
    peer = await tx.peers.get("nersc")

    await tx.copies_due.turn(
        peer.id, [Turn(file_id=ids[0], state=DueState.SENDING, next_try_at=utc_now(), reason="why", failed=True)]
    )

    dues = await tx.copies_due.of_files(ids)
    assert [(due.state, due.attempts, due.reason) for due in dues] == [(DueState.SENDING, 1, "why")] * 2


async def test_what_is_paid_leaves_the_total(tx):
    await has_rule(tx)
    names = ["a", "b"]
    ids = await has_files(tx, *names)
    await arrive(tx, ids, names)
    peer = await tx.peers.get("nersc")

    paid = await tx.copies_due.paid(peer.id, ids[:1])
    again = await tx.copies_due.paid(peer.id, ids[:1])

    assert (paid, again) == (1, 0)
    assert await tx.tallies.of(due_subject(peer.id)) == Tally(files=1, bytes=10)


async def test_what_was_being_offered_when_the_process_died_is_due_again(tx):
    await has_rule(tx)
    ids = await has_files(tx, "a")
    await arrive(tx, ids, ["a"])
    peer = await tx.peers.get("nersc")
    await tx.copies_due.turn(peer.id, [Turn(file_id=ids[0], state=DueState.SENDING, next_try_at=utc_now())])

    await tx.copies_due.reclaim()

    assert [due.state for due in await tx.copies_due.of_files(ids)] == [DueState.DUE]


async def test_a_rule_that_is_switched_off_is_owed_nothing(tx):
    rule = await has_rule(tx)
    ids = await has_files(tx, "a")
    await arrive(tx, ids, ["a"])
    peer = await tx.peers.get("nersc")

    await tx.copies_due.waive(rule.id)

    assert await tx.copies_due.of_files(ids) == ()
    assert await tx.tallies.of(due_subject(peer.id)) == Tally(files=0, bytes=0)


async def test_a_rule_waits_for_a_peer_that_does_not_exist_yet(tx):
    await has_files(tx, "a")
    await replication.put_rule(tx, RuleName("later"), policy=RulePolicy(peer="berkeley"), who="admin")
    before = await tx.rules.next_backfill()

    await tx.peers.add(
        SiteName("berkeley"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
    )
    await replication.peer_appeared(tx, name="berkeley")

    assert before is None
    assert (await tx.rules.next_backfill()).name == "later"


async def test_the_place_of_a_walk_is_lost_when_the_rule_changed_meanwhile(tx):
    await has_files(tx, "a", "b")
    rule = await has_rule(tx)
    await has_rule(tx, match=("b",))

    assert not await tx.rules.walked(rule, after=None)


async def test_what_an_older_notice_says_changes_nothing(tx):
    (id_,) = await has_files(tx, "a")
    peer = await tx.peers.get("nersc")
    held = Attestation(file_id=id_, store="fast", is_held=True, seq=7)
    gone = Attestation(file_id=id_, store="", is_held=False, seq=3)

    first = await tx.remote_instances.attest(peer.id, [held], epoch=2)
    older = await tx.remote_instances.attest(peer.id, [gone], epoch=2)
    older_epoch = await tx.remote_instances.attest(
        peer.id, [Attestation(file_id=id_, store="", is_held=False, seq=99)], epoch=1
    )
    again = await tx.remote_instances.attest(peer.id, [held], epoch=2)

    assert (first, older, older_epoch, again) == ({id_}, set(), set(), set())
    assert [copy.peer for copy in await tx.remote_instances.of_files([id_])] == ["nersc"]


async def test_rules_wait_with_their_oldest_copy_and_those_without_any_do_not(tx):
    first, second = await has_rule(tx, "first", match=("a*",)), await has_rule(tx, "second", match=("b",))
    await has_rule(tx, "third", match=("c",))
    names = ["a1", "a2", "b"]
    ids = await has_files(tx, *names)
    peer = await tx.peers.get("nersc")
    before = utc_now()

    await arrive(tx, ids, names)

    now = utc_now()
    waiting = await tx.waiting.rules(peer.id, now=now)
    assert [each.rule.id for each in waiting] == [first.id, second.id]
    assert all(before <= each.since <= now for each in waiting)
    assert await tx.waiting.sample(first.id, now=now, limit=10) == Tally(files=2, bytes=20)
    assert await tx.waiting.sample(first.id, now=now, limit=1) == Tally(files=1, bytes=10)


async def test_nothing_waits_for_a_rule_that_is_switched_off_or_a_peer_that_is_held(tx):
    rule = await has_rule(tx)
    ids = await has_files(tx, "a")
    await arrive(tx, ids, ["a"])
    peer = await tx.peers.get("nersc")

    await tx.peers.hold(peer.id, "it changed")
    held = await tx.waiting.peers(utc_now())
    await tx.peers.hold(peer.id, None)
    open_ = await tx.waiting.peers(utc_now())
    await tx.rules.switch_off(rule.id)

    assert (held, open_, await tx.waiting.peers(utc_now())) == ((), (peer.id,), ())


async def test_bytes_are_staged_at_a_peer_from_its_acceptance_until_it_holds_them(tx):
    await has_rule(tx)
    ids = await has_files(tx, "a", "b")
    peer = await tx.peers.get("nersc")
    uuids = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"]
    batch = await tx.batches.queue(peer.id, engine="http", store=StoreName("fast"), files=2, size=20)

    await tx.outgoing.open(peer.id, [NewOutgoing(uuid=u, file_id=i, size=10) for u, i in zip(uuids, ids, strict=True)])
    offered = await tx.outgoing.staged_bytes(peer.id)
    await tx.outgoing.accept(
        [
            Acceptance(uuid=u, token=Token(f"{n}" * 32), store=StoreName("fast"), batch_id=batch)
            for n, u in enumerate(uuids)
        ]
    )
    await tx.outgoing.stage(batch, uuids=uuids[:1])
    accepted = await tx.outgoing.staged_bytes(peer.id)
    await tx.outgoing.complete(peer.id, ids[:1])

    assert (offered, accepted, await tx.outgoing.staged_bytes(peer.id)) == (0, 20, 10)


async def fill(tx, peer, batch, letter):
    """Let a file of its own go to *peer* in *batch*."""
    (file,) = await has_files(tx, letter)
    await tx.outgoing.open(peer, [NewOutgoing(uuid=letter, file_id=file, size=10)])
    await tx.outgoing.accept(
        [Acceptance(uuid=letter, token=Token(letter * 32), store=StoreName("fast"), batch_id=batch)]
    )


async def test_an_engine_tells_what_it_does_for_each_peer_and_who_waits(tx):
    nersc = await tx.peers.get("nersc")
    berkeley = await tx.peers.add(
        SiteName("berkeley"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
    )
    where = {"store": StoreName("fast"), "files": 1, "size": 1}
    running = await tx.batches.queue(nersc.id, engine="http", **where)
    await tx.batches.move(running, BatchState.SUBMITTING)
    await fill(tx, berkeley.id, await tx.batches.queue(berkeley.id, engine="http", **where), "a")
    await fill(tx, nersc.id, await tx.batches.queue(nersc.id, engine="http", **where), "b")
    ended = await tx.batches.queue(nersc.id, engine="local", **where)
    await tx.batches.move(ended, BatchState.FAILED)

    loads = await tx.batches.loads(utc_now())

    assert [(load.engine, load.peer_id, load.started, load.is_waiting) for load in loads] == [
        ("http", berkeley.id, 0, True),
        ("http", nersc.id, 1, True),
    ]
