"""Peers that speak of what was offered to others: nothing moves, and nothing is given away."""

import uuid

import pytest

from librarian.catalog.outgoing import Acceptance, NewOutgoing
from librarian.names import RuleName, SiteName, Token
from librarian.policies import RulePolicy
from librarian.replication import Assertion, note, put_rule
from librarian.states import DueState, Reach, Role, TransferState
from librarian.timing import utc_now
from tests.clone_fixtures import party
from tests.network.test_clone_protocol import a_clone, a_notice, has_file, tell
from tests.site_fixtures import create_account


@pytest.fixture
async def sending(urls, tmp_path):
    """chajnantor, which has offered "one" to nersc; berkeley takes clones of other files. The site, and the clone."""
    async with party(urls[0], tmp_path / "chajnantor", "chajnantor", tasks=False) as sender:
        clone = a_clone("one")
        await has_file(sender, clone)
        for name in ("nersc", "berkeley"):
            await create_account(sender.site, name, Role.CALLBACK)
            async with sender.site.catalog.begin() as tx:
                await tx.peers.add(
                    SiteName(name),
                    url="http://localhost:9",
                    username="chajnantor",
                    secret=b"",
                    reach=Reach.PUSH,
                    accepts=[""],
                    entry_points=[],
                )
        async with sender.site.catalog.begin() as tx:
            peer, file = await tx.peers.get("nersc"), (await tx.files.named(["one"]))["one"]
            await tx.outgoing.open(peer.id, [NewOutgoing(uuid=clone["uuid"], file_id=file.id, size=file.size)])
        yield sender, clone


async def state_of(sender) -> TransferState:
    (transfer,) = await sender.outgoing()
    return transfer.state


@pytest.mark.parametrize(("state", "answer"), [("failed", "refused"), ("held", "refused"), ("gone", "ignored")])
async def test_a_peer_settles_nothing_that_was_offered_to_another(sending, state, answer):
    sender, clone = sending

    answers = await tell(sender, a_notice(1, clone, state), a_notice(2, a_clone("nothing"), state), user="berkeley")

    assert answers == [answer] * 2
    assert await state_of(sender) is TransferState.INITIATED
    assert await sender.remote_instances(["one"]) == {"one": set()}


@pytest.mark.parametrize("state", ["staged", "cancelled"])
async def test_a_peer_that_takes_clones_cannot_speak_as_their_sender(sending, state):
    sender, clone = sending

    assert await tell(sender, a_notice(1, clone, state), user="nersc") == ["refused"]
    assert await state_of(sender) is TransferState.INITIATED


async def test_a_peer_that_holds_other_content_is_not_believed_and_a_person_is_told(sending):
    sender, clone = sending

    answers = await tell(sender, a_notice(1, {**clone, "checksum": "xxh3:" + "1" * 32}, "held"), user="nersc")

    assert answers == ["refused"]
    assert await sender.remote_instances(["one"]) == {"one": set()}
    assert ["differs:one" in alert.cause for alert in await sender.alerts()] == [True]


async def test_a_peer_learns_nothing_by_asking_about_what_was_offered_to_another(sending):
    sender, clone = sending
    question = {"offered": [clone["uuid"]], "taken": [clone["uuid"]]}

    asked = await sender.live.call("POST", "/api/v1/clones/states", user="berkeley", body=question)
    shown = await sender.live.call("GET", f"/api/v1/clones/{clone['uuid']}", user="berkeley")

    assert asked.json == {"offered": [], "taken": []}
    assert shown.status == 404


async def test_a_word_about_a_clone_that_was_refused_is_dropped_once_the_file_is_held(sending):
    sender, clone = sending
    async with sender.site.catalog.begin() as tx:
        peer = await tx.peers.get("nersc")
        assertion = Assertion(name=clone["name"], size=clone["size"], checksum=clone["checksum"])
        await tx.outbox.put([note(peer.id, clone["uuid"], "staged", assertion)])
        (waiting,) = await tx.outbox.waiting(peer.id, now=utc_now(), limit=1)
        await tx.outbox.set_aside([(waiting.id, "there is no such transfer")])

    answers = await tell(sender, a_notice(1, clone, "held"), user="nersc")

    async with sender.site.catalog.read() as tx:
        left = await tx.outbox.set_aside_ones(after=0, peer=peer.id, limit=10)
    assert (answers, left) == (["applied"], ())


async def test_the_peer_it_was_offered_to_may_end_it_once(sending):
    sender, clone = sending

    first = await tell(sender, a_notice(1, clone, "failed"), user="nersc")
    again = await tell(sender, a_notice(1, clone, "failed"), user="nersc")
    later = await tell(sender, a_notice(2, clone, "failed"), user="nersc")

    assert (first, again, later) == (["applied"], ["ignored"], ["ignored"])
    assert await state_of(sender) is TransferState.FAILED


async def test_a_copy_that_is_gone_by_a_later_word_does_not_come_back_by_an_earlier(sending):
    sender, clone = sending

    answers = [
        await tell(sender, a_notice(1, clone, "held"), user="nersc"),
        await tell(sender, a_notice(5, clone, "gone"), user="nersc"),
        await tell(sender, a_notice(3, clone, "held"), user="nersc"),
    ]

    assert answers == [["applied"], ["applied"], ["ignored"]]
    assert await sender.remote_instances(["one"]) == {"one": set()}


async def carry(sender) -> None:
    """Bytes of "one" are on their way to nersc, under the transfer that is open or a new one."""
    async with sender.site.catalog.begin() as tx:
        peer, file = await tx.peers.get("nersc"), (await tx.files.named(["one"]))["one"]
        if not await tx.outgoing.live([file.id]):
            await tx.outgoing.open(peer.id, [NewOutgoing(uuid=str(uuid.uuid4()), file_id=file.id, size=file.size)])
        (live,) = await tx.outgoing.live([file.id])
        batch = await tx.batches.queue(peer.id, engine="http", store="main", files=1, size=file.size)
        await tx.outgoing.accept([Acceptance(uuid=live.uuid, token=Token.mint(), store="main", batch_id=batch)])


async def owes_everything(sender) -> None:
    async with sender.site.catalog.begin() as tx:
        await put_rule(tx, RuleName("to-nersc"), policy=RulePolicy(peer="nersc"), who="admin")


async def test_a_copy_that_its_holder_loses_again_and_again_waits_for_a_person_in_the_end(sending):
    sender, clone = sending
    await owes_everything(sender)
    seen = []
    for loss in range(6):
        await carry(sender)
        held, gone = a_notice(2 * loss + 1, clone, "held"), a_notice(2 * loss + 2, clone, "gone", code="corrupt")
        assert [await tell(sender, word, user="nersc") for word in (held, gone)] == [["applied"]] * 2
        (due,) = await sender.dues(["one"])
        seen.append((due.state, due.attempts, due.next_try_at > due.since))

    waits = (DueState.DUE, 1, True)
    assert seen == [(DueState.DUE, 0, False), waits, waits, waits, waits, (DueState.QUARANTINED, 1, False)]
    assert [alert.cause for alert in await sender.alerts()] == ["peer:nersc:quarantine"]
    assert due.reason == "nersc took it 6 times, and lost it each time: corrupt"


async def test_the_loss_of_what_was_not_known_to_be_there_changes_nothing(sending):
    sender, clone = sending
    await owes_everything(sender)

    unheard = await tell(sender, a_notice(1, clone, "gone", code="missing"), user="nersc")
    held = await tell(sender, a_notice(2, clone, "held"), user="nersc")
    given_up = await tell(sender, a_notice(3, clone, "gone", code="withdrawn"), user="nersc")
    again = await tell(sender, a_notice(4, clone, "gone", code="missing"), user="nersc")

    async with sender.site.catalog.read() as tx:
        story = [happening.what for happening in await tx.events.story_of("one")]
    assert [unheard, held, given_up, again] == [["ignored"], ["applied"], ["applied"], ["ignored"]]
    assert story == ["held at nersc", "gone at nersc"]
    assert await sender.dues(["one"]) == ()
