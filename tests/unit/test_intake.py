"""Intake: names are free both ways, room is promised once, and every repeat is harmless."""

import asyncio

import pytest

from librarian import intake
from librarian.catalog.incoming_rows import Commit, Seen
from librarian.errors import (
    BadChecksum,
    LibrarianError,
    NameBusy,
    NameHeld,
    NameNested,
    NoRoom,
    NotFound,
    StoreUnavailable,
    WrongState,
)
from librarian.names import StoreName
from librarian.states import Role, TransferState
from tests.holding import hold
from tests.uploading import (
    ANA,
    BEN,
    account,
    asking,
    brought,
    checksum_of,
    committed,
    folder_of,
    ingest,
    now_of,
    open_one,
    state_of,
)


def code_of(answer) -> str:
    return answer.code if isinstance(answer, LibrarianError) else "opened"


async def test_opening_makes_a_row_and_then_a_directory(site):
    upload = await open_one(site, "2026/a", b"truth")

    assert await state_of(site, upload) is TransferState.INITIATED
    assert folder_of(site, upload).is_dir()


async def test_a_held_name_is_refused_with_what_is_held_even_when_equal(site):
    await hold(site, "a", b"truth")

    refusal = await open_one(site, "a", b"truth")

    assert isinstance(refusal, NameHeld)
    assert refusal.details == {"name": "a", "kind": "file", "size": 5, "checksum": checksum_of(b"truth")}


async def test_opening_again_gives_the_same_upload(site):
    first = await open_one(site, "a")

    second = await open_one(site, "a")

    assert second.uuid == first.uuid


async def test_opening_again_makes_a_directory_that_a_crash_left_out(site):
    first = await open_one(site, "a")
    folder_of(site, first).rmdir()

    await open_one(site, "a")

    assert folder_of(site, first).is_dir()


async def test_opening_again_after_the_commit_gives_the_upload_to_wait_for(site):
    upload = await committed(site, "a")

    again = await open_one(site, "a")

    assert (again.uuid, again.state) == (upload.uuid, TransferState.STAGED)


@pytest.mark.parametrize("other", ["another account", "another size", "another kind", "another checksum"])
async def test_a_name_that_is_arriving_is_busy_for_others(site, other):
    await open_one(site, "a", b"truth", checksum=checksum_of(b"truth"))

    answer = await {
        "another account": lambda: open_one(site, "a", b"truth", by=BEN),
        "another size": lambda: open_one(site, "a", b"truth", size=7),
        "another kind": lambda: open_one(site, "a", {"x": b"truth"}),
        "another checksum": lambda: open_one(site, "a", b"truth", checksum=checksum_of(b"liess")),
    }[other]()

    assert isinstance(answer, NameBusy)


@pytest.mark.parametrize("state", ["held", "arriving"])
@pytest.mark.parametrize(("first", "second"), [("a/b", "a"), ("a/b", "a/b/c"), ("a/b/c/d", "a"), ("a", "a/b/c/d")])
async def test_a_name_may_lie_neither_inside_nor_around_another(site, state, first, second):
    await (hold(site, first, b"truth") if state == "held" else open_one(site, first))

    answer = await open_one(site, second)

    assert isinstance(answer, NameNested)
    assert answer.details["other"] == first


@pytest.mark.parametrize(("first", "second"), [("a/b", "a/bc"), ("a-b", "a"), ("a.b", "a"), ("a0", "a"), ("a", "b/a")])
async def test_names_that_only_look_nested_are_free(site, first, second):
    await hold(site, first, b"truth")

    assert code_of(await open_one(site, second)) == "opened"


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a")])
async def test_nesting_within_one_request_is_refused_for_the_later(site, names):
    answers = await intake.open_uploads(site, ANA, [asking(name) for name in names])

    assert [code_of(answer) for answer in answers] == ["opened", "name_nested"]


async def test_one_name_twice_in_one_request_is_one_upload(site):
    answers = await intake.open_uploads(site, ANA, [asking("a"), asking("b"), asking("a")])

    assert answers[0].uuid == answers[2].uuid


async def test_one_name_twice_in_one_request_with_two_sizes_is_refused(site):
    answers = await intake.open_uploads(site, ANA, [asking("a"), asking("a", size=9)])

    assert [code_of(answer) for answer in answers] == ["opened", "name_busy"]


async def test_each_of_a_list_has_its_own_answer(site):
    await hold(site, "held", b"truth")

    answers = await intake.open_uploads(site, ANA, [asking("a"), asking("held"), asking("b", size=2**60), asking("c")])

    assert [code_of(answer) for answer in answers] == ["opened", "name_held", "no_room", "opened"]


async def test_of_two_uploads_of_one_name_at_once_one_is_refused(site):
    answers = await asyncio.gather(open_one(site, "a", by=ANA), open_one(site, "a", by=BEN))

    assert sorted(map(code_of, answers)) == ["name_busy", "opened"]


@pytest.mark.parametrize("pair", [("a", "a/b"), ("x/y/z", "x")])
async def test_of_a_name_and_one_inside_it_at_once_one_is_refused(site, pair):
    for round_ in range(5):
        answers = await asyncio.gather(*(open_one(site, f"{round_}/{name}") for name in pair))

        assert sorted(map(code_of, answers)) == ["name_nested", "opened"]


async def test_more_than_fits_is_refused_with_the_values_and_a_remedy(site):
    refusal = await open_one(site, "a", size=2**60)

    assert isinstance(refusal, NoRoom)
    assert f"{2**60:,}" in refusal.message
    assert "fast" in refusal.message
    assert refusal.remedy


async def test_what_is_promised_is_not_promised_again(site):
    free = (await site.stores.lookup("fast").capacity()).free_bytes
    await open_one(site, "a", size=free * 6 // 10)

    assert code_of(await open_one(site, "b", size=free * 6 // 10)) == "no_room"


async def test_within_one_list_room_is_promised_once(site):
    free = (await site.stores.lookup("fast").capacity()).free_bytes

    answers = await intake.open_uploads(site, ANA, [asking(name, size=free * 4 // 10) for name in "abc"])

    assert [code_of(answer) for answer in answers] == ["opened", "opened", "no_room"]


async def test_a_cancelled_upload_gives_its_room_back(site):
    free = (await site.stores.lookup("fast").capacity()).free_bytes
    upload = await open_one(site, "a", size=free * 6 // 10)
    await intake.cancel(site, ANA, upload.uuid)

    assert code_of(await open_one(site, "b", size=free * 6 // 10)) == "opened"


async def test_bytes_that_have_come_are_looked_at_before_room_is_refused(site):
    upload = await brought(site, "a", b"truth")
    free = (await site.stores.lookup("fast").capacity()).free_bytes
    async with site.catalog.begin() as tx:
        await tx.claims.saw([Seen(id=upload.id, reserved=free)])

    assert code_of(await open_one(site, "b", size=free // 2)) == "opened"


async def test_a_closed_store_takes_nothing_and_says_so(site):
    async with site.catalog.begin() as tx:
        await tx.stores.set_open(StoreName("fast"), is_open=False)

    refusal = await open_one(site, "a")

    assert isinstance(refusal, NoRoom)
    assert "fast is closed" in refusal.message


async def test_a_store_with_a_problem_takes_nothing_and_says_why(site, tmp_path):
    site.stores.lookup("fast").root.rename(tmp_path / "elsewhere")
    await site.stores.probe()

    refusal = await open_one(site, "a")

    assert isinstance(refusal, (NoRoom, StoreUnavailable))


async def test_a_commit_stages_and_rings(site):
    upload = await brought(site, "a")

    (answer,) = await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(b"truth"))])

    assert answer.state is TransferState.STAGED
    await asyncio.wait_for(site.bells.heard("ingest"), timeout=1)


async def test_the_checksum_may_come_when_opening(site):
    upload = await brought(site, "a", checksum=checksum_of(b"truth"))

    (answer,) = await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=None)])

    assert (answer.state, answer.checksum) == (TransferState.STAGED, checksum_of(b"truth"))


async def test_without_any_checksum_a_commit_is_refused(site):
    upload = await brought(site, "a")

    (answer,) = await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=None)])

    assert isinstance(answer, BadChecksum)


async def test_two_checksums_that_differ_are_refused(site):
    upload = await brought(site, "a", checksum=checksum_of(b"truth"))

    (answer,) = await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(b"liess"))])

    assert isinstance(answer, BadChecksum)


async def test_a_book_needs_the_checksum_of_a_book(site):
    upload = await brought(site, "book", {"x": b"1"})

    (answer,) = await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(b"1"))])

    assert isinstance(answer, BadChecksum)


@pytest.mark.parametrize("settled", [False, True])
async def test_committing_again_changes_nothing(site, settled):
    upload = await committed(site, "a")
    if settled:
        await ingest(site)

    (answer,) = await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(b"truth"))])

    assert answer.state is (TransferState.COMPLETED if settled else TransferState.STAGED)


async def test_nobody_commits_describes_or_cancels_the_upload_of_another(site):
    upload = await brought(site, "a")

    (answer,) = await intake.commit_uploads(site, BEN, [Commit(uuid=upload.uuid, checksum=checksum_of(b"truth"))])

    assert isinstance(answer, NotFound)
    with pytest.raises(NotFound):
        await intake.describe(site, BEN, upload.uuid)
    with pytest.raises(NotFound):
        await intake.cancel(site, BEN, upload.uuid)


async def test_an_administrator_may_cancel_for_others(site):
    upload = await brought(site, "a")

    await intake.cancel(site, account("root", Role.ADMIN), upload.uuid)

    assert await state_of(site, upload) is TransferState.CANCELLED


async def test_cancelling_frees_the_name_and_clears_staging_and_a_repeat_changes_nothing(site):
    upload = await brought(site, "a")

    for _ in range(2):
        assert (await intake.cancel(site, ANA, upload.uuid)).state is TransferState.CANCELLED

    assert not folder_of(site, upload).exists()
    assert code_of(await open_one(site, "a", by=BEN)) == "opened"


async def test_what_is_complete_cannot_be_cancelled(site):
    upload = await committed(site, "a")
    await ingest(site)

    with pytest.raises(WrongState):
        await intake.cancel(site, ANA, upload.uuid)


async def test_a_cancelled_upload_cannot_be_committed(site):
    upload = await brought(site, "a")
    await intake.cancel(site, ANA, upload.uuid)

    (answer,) = await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(b"truth"))])

    assert isinstance(answer, WrongState)


async def test_a_thousand_uploads_cost_a_handful_of_statements(site):
    before = site.catalog.statements

    opened = await intake.open_uploads(site, ANA, [asking(f"many/{number}") for number in range(1000)])
    staged = await intake.commit_uploads(
        site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(b"truth")) for upload in opened]
    )

    assert {upload.state for upload in staged} == {TransferState.STAGED}
    assert site.catalog.statements - before <= 14


async def test_waiting_ends_when_all_have_settled(site):
    uploads = [await committed(site, name) for name in ("a", "b")]
    waiting = asyncio.create_task(
        intake.wait_until_settled(site, [upload.uuid for upload in uploads], intake.timedelta(seconds=60))
    )

    await ingest(site)

    assert {upload.state for upload in (await waiting).values()} == {TransferState.COMPLETED}


async def test_waiting_gives_up_after_its_time(site):
    upload = await committed(site, "a")

    found = await intake.wait_until_settled(site, [upload.uuid], intake.timedelta(0))

    assert found[upload.uuid].state is TransferState.STAGED


async def test_a_store_that_cannot_stage_leaves_no_live_row(site, monkeypatch):
    async def refuse(_):
        raise NoRoom("the inode table of 'fast' is full", remedy="Free some.")

    monkeypatch.setattr(site.stores.lookup("fast"), "stage", refuse)

    refusal = await open_one(site, "a")

    assert isinstance(refusal, NoRoom)
    monkeypatch.undo()
    upload = await open_one(site, "a")
    assert (await now_of(site, upload)).state is TransferState.INITIATED
