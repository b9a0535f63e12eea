"""Transfers that a drive carries: no order of an operator ends them one by one."""

import pytest

from librarian import accepting, confirming, journeys, manifest, notices, receiving, releasing, room, steering
from librarian.errors import Conflict
from librarian.names import StoreName, TransferId
from librarian.outcomes import Refusal
from librarian.states import DueState, Role, TransferState
from librarian.suitcase import Suitcase
from librarian.timing import utc_now
from librarian.wire.clones import Notice, Notices
from tests.carrying import A07, CONTENTS, NERSC, add_peer, lay, make_drive, outgoing_of, seal
from tests.holding import hold
from tests.loading import dues_of, load, rule
from tests.suitcases import KEY, seal_folder
from tests.uploading import ANA, story_of


@pytest.fixture
async def sealed(site, tmp_path):
    """The site, with three transfers that travel on a drive."""
    media = tmp_path / "media"
    await make_drive(site, media, is_folder=True)
    await lay(site, media)
    await add_peer(site)
    await seal(site)
    return site


async def test_what_travels_on_a_drive_cannot_be_cancelled_and_is_told_which_drive(sealed):
    carried = await outgoing_of(sealed)

    ordered = await steering.cancel(sealed, ANA, [each.uuid for each in carried], dry_run=False)

    assert len(ordered) == 3
    assert {each.refusal.details["drive"] for each in ordered} == {"A07"}
    assert all("'drive lost A07'" in each.refusal.remedy for each in ordered)
    assert [each.state for each in await outgoing_of(sealed)] == [each.state for each in carried]
    assert TransferState.CANCELLED not in {each.state for each in carried}


async def refuse(site, *codes: str) -> None:
    """The peer says with *codes* what it could not take from the drive."""
    async with site.catalog.begin() as tx:
        transfers = await tx.outgoing.page(before=None, peer=None, states=(), limit=10)
        (peer,) = (await tx.peers.with_ids([transfers[0].peer_id])).values()
        told = [
            Refusal(transfer=transfer, code=code, reason=f"it says {code}", seq=number)
            for number, (transfer, code) in enumerate(zip(transfers, codes, strict=False), start=1)
        ]
        await confirming.entries_failed(tx, peer, told, epoch=1)


async def alerts_of(site) -> dict[str, str]:
    async with site.catalog.read() as tx:
        return {alert.cause: alert.message for alert in await tx.alerts.open_ones()}


async def test_what_a_peer_would_refuse_from_every_drive_is_told_to_a_person(sealed):
    await refuse(sealed, "entry_differs", "name_held", "name_nested")

    found = await alerts_of(sealed)
    assert set(found) == {"drive-unwanted:A07"}
    assert "nersc did not take 2 files from the drive A07" in found["drive-unwanted:A07"]


async def test_what_was_bad_on_a_drive_is_sent_again_and_needs_nobody(sealed):
    await refuse(sealed, "entry_differs", "entry_missing", "cancelled")

    assert await alerts_of(sealed) == {}


@pytest.fixture
async def carried(site, tmp_path):
    """The site, with three files that a drive carries to a peer for a rule."""
    for name in ("a", "b", "c"):
        await hold(site, name, name.encode())
    await add_peer(site)
    await rule(site, "A*", peer="nersc")
    await make_drive(site, tmp_path / "A07", is_folder=True)
    await load(site)
    await seal(site)
    return site


async def hears(site, **said: str) -> None:
    """The peer tells of each file that it holds it, or with which code it could not take it from the drive."""
    async with site.catalog.begin() as tx:
        peer = await tx.peers.get(NERSC)
        told = []
        for transfer in await tx.outgoing.page(before=None, peer=peer.id, states=(), limit=10):
            if (word := said.get(transfer.name)) is None:
                continue
            about = {"name": transfer.name, "size": transfer.size, "checksum": transfer.checksum}
            seq = peer.seen_seq + len(told) + 1
            if word == "held":
                told.append(Notice(seq=seq, subject=transfer.name, state="held", transfer=transfer.uuid, **about))
            else:
                told.append(Notice(seq=seq, subject=transfer.uuid, state="failed", code=word, reason="no", **about))
        said_ = Notices(site=NERSC, epoch=1, notices=told)
        await notices.hear(tx, peer=peer, roles=frozenset({Role.CALLBACK}), said=said_, most_failures=5)


async def owed_by(site) -> dict[str, tuple[DueState, str | None]]:
    return {name: (due.state, due.reason) for name in "abc" for due in await dues_of(site, name)}


async def totals_of(site) -> tuple[int, int]:
    """Files that are to go onto drives, and files in quarantine."""
    (outlook,) = (await journeys.drive_status(site)).rules
    return outlook.due.files, outlook.quarantined.files


async def test_what_a_peer_does_not_want_goes_onto_no_other_drive_until_somebody_says_so(carried, tmp_path):
    await hears(carried, a="entry_differs", b="cancelled", c="name_held")
    totals = [await totals_of(carried)]
    await make_drive(carried, tmp_path / "A08", StoreName("A08"), is_folder=True)
    await load(carried)
    apart = await owed_by(carried)
    totals.append(await totals_of(carried))
    async with carried.catalog.read() as tx:
        (stopped,) = await tx.stopped.page(after=None, peer=None, states=(), limit=10)
    told = await alerts_of(carried)

    again = await steering.retry(carried, ANA, names=[], peer_name="nersc", dry_run=False)
    await load(carried)

    on_next = (DueState.LOADED, "on A08")
    assert apart == {"a": on_next, "b": on_next, "c": (DueState.QUARANTINED, "no")}
    assert (stopped.name, stopped.code, set(told)) == ("c", "name_held", {"drive-unwanted:A07"})
    assert again == 1
    assert await owed_by(carried) == {"a": on_next, "b": on_next, "c": on_next}
    assert [*totals, await totals_of(carried)] == [(2, 1), (0, 1), (0, 0)]
    assert await alerts_of(carried) == {}


@pytest.mark.parametrize("last", ["held", "cancelled"])
async def test_a_drive_is_settled_when_its_peer_has_answered_for_all_that_it_carried(carried, last):
    await hears(carried, a="held", b="cancelled")
    before = await story_of(carried, "drive:A07")
    await hears(carried, c=last)
    await hears(carried, b="cancelled", c=last)

    async with carried.catalog.read() as tx:
        stakes = await releasing.stakes_of(tx, await tx.drives.get(A07))
        told = [each.message for each in await tx.notifications.waiting(utc_now(), limit=100)]
    story = await story_of(carried, "drive:A07")
    assert (before[-1], story) == ("received", [*before, "settled"])
    assert any(text.startswith("Drive A07 was settled by nersc: it holds ") for text in told)
    assert (stakes.files, stakes.unconfirmed_files) == (3, 0)


async def test_what_a_peer_could_not_read_is_given_up_by_its_number_alone_where_it_is_nowhere_else(sealed):
    await refuse(sealed, "entry_unreadable", "entry_missing", "entry_differs")
    await lay(sealed, sealed.stores.lookup("fast").root, {"top": CONTENTS["top"]}, store="fast", is_known=True)

    with pytest.raises(Conflict, match="of 2 of them no other copy is known"):
        await releasing.release(sealed, A07, lose=0, who="ana")
    await releasing.release(sealed, A07, lose=2, who="ana")


async def test_what_was_listed_and_not_read_fails_and_is_told_when_a_drive_is_given_up(site, tmp_path):
    media = seal_folder(tmp_path / "media", sender="nersc", to=site.name)
    await add_peer(site)
    order = accepting.Order(path=media, trust=manifest.fingerprint(KEY.public))
    reception = await accepting.accept(site, ANA, order)
    case, rooms = Suitcase(media, name=A07), await room.sample(site)
    entries = await case.entries(after=0)
    async with site.catalog.begin(opens_names=True) as tx:
        await receiving.admit(tx, reception, entries, rooms=rooms)

    await accepting.give_up(site, ANA, reception)

    async with site.catalog.read() as tx:
        bad = await tx.receptions.bad_entries(reception.id, after=TransferId(0), limit=10)
        untold = await tx.outbox.about([(reception.peer_id, entry.uuid) for entry in entries])
    assert [(each.code, each.has_staging) for each in bad] == [("cancelled", False)] * 3
    assert {each.subject for each in untold} == {entry.uuid for entry in entries}
