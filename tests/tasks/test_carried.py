"""Transfers that a drive carries: no order of an operator ends them one by one."""

from librarian import steering
from librarian.states import TransferState
from tests.carrying import add_peer, lay, make_drive, outgoing_of, seal
from tests.uploading import ANA


async def test_what_travels_on_a_drive_cannot_be_cancelled_and_is_told_which_drive(site, tmp_path):
    media = tmp_path / "media"
    await make_drive(site, media, is_folder=True)
    await lay(site, media)
    await add_peer(site)
    await seal(site)
    carried = await outgoing_of(site)

    ordered = await steering.cancel(site, ANA, [each.uuid for each in carried], dry_run=False)

    assert len(ordered) == 3
    assert {each.refusal.details["drive"] for each in ordered} == {"A07"}
    assert all("'drive lost A07'" in each.refusal.remedy for each in ordered)
    assert [each.state for each in await outgoing_of(site)] == [each.state for each in carried]
    assert TransferState.CANCELLED not in {each.state for each in carried}
