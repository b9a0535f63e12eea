"""Transfers that a drive carries: no order of an operator ends them one by one."""

import pytest

from librarian import accepting, confirming, manifest, receiving, room, steering
from librarian.names import TransferId
from librarian.outcomes import Refusal
from librarian.states import TransferState
from librarian.suitcase import Suitcase
from tests.carrying import A07, add_peer, lay, make_drive, outgoing_of, seal
from tests.suitcases import KEY, seal_folder
from tests.uploading import ANA


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
