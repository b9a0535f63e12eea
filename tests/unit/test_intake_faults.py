"""Intake while stores come and go: what is under way is never given up for a store that may come back."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from librarian import intake
from librarian.catalog.schema import IncomingRow
from librarian.errors import StoreUnavailable
from librarian.states import TransferState
from librarian.timing import utc_now
from tests.unit.test_intake import code_of
from tests.uploading import ANA, asking, brought, open_one, state_of


async def test_an_upload_under_way_survives_a_store_that_is_away_when_it_is_opened_again(site, tmp_path):
    upload = await brought(site, "a", b"truth")
    root = site.stores.lookup("fast").root
    root.rename(tmp_path / "elsewhere")

    refusal = await open_one(site, "a", b"truth")
    state = await state_of(site, upload)
    (tmp_path / "elsewhere").rename(root)
    await site.stores.probe()
    again = await open_one(site, "a", b"truth")

    assert isinstance(refusal, StoreUnavailable)
    assert state is TransferState.INITIATED
    assert (again.uuid, again.token) == (upload.uuid, upload.token)


async def test_a_new_upload_on_a_store_that_went_away_is_refused_and_frees_its_name(site, tmp_path):
    upload = await brought(site, "a", b"truth")
    store = site.stores.lookup("fast")

    async def go_away(tokens):
        raise StoreUnavailable("it went away")

    store.stage, stage = go_away, store.stage
    answers = await intake.open_uploads(site, ANA, [asking("a"), asking("b")])
    store.stage = stage

    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    assert await state_of(site, upload) is TransferState.INITIATED
    assert (await open_one(site, "b", b"another size")).name == "b"


@pytest.mark.parametrize(("state", "answers"), [("initiated", "opened"), ("staged", "no_room")])
async def test_room_is_not_kept_for_bytes_that_have_not_come_for_days(site, state, answers):
    free = (await site.stores.lookup("fast").capacity()).free_bytes
    upload = await open_one(site, "a", size=free * 6 // 10)
    async with site.catalog.begin() as tx:
        await tx._connection.execute(
            update(IncomingRow)
            .where(IncomingRow.id == upload.id)
            .values(progressed_at=utc_now() - timedelta(days=2), state=state)
        )

    answer = await open_one(site, "b", size=free * 6 // 10)

    assert code_of(answer) == answers
