"""Names that are asked for at once: whoever comes first, the tree of names holds, and room is promised once."""

import asyncio
import itertools
import uuid

import pytest

from librarian import intake, verdicts
from librarian.catalog.incoming_rows import Commit
from librarian.catalog.records import Incoming
from librarian.errors import LibrarianError
from librarian.names import SiteName
from librarian.policies import ClonePolicy
from librarian.states import Reach, TransferState
from librarian.timing import utc_now
from librarian.wire.clones import OfferedClone
from tests.uploading import ANA, account, asking, brought, checksum_of, now_of, open_one

CALLERS = [account(f"caller-{number}") for number in range(8)]
#: Enough for the two orders in which transactions may meet.
ROUNDS = 10


def codes_of(answers) -> list[str]:
    return sorted(answer.code if isinstance(answer, LibrarianError) else "opened" for answer in answers)


async def test_of_many_uploads_of_one_name_at_once_one_is_opened(site):
    for name in map(str, range(ROUNDS)):
        answers = await asyncio.gather(*(open_one(site, name, by=caller) for caller in CALLERS))

        assert codes_of(answers) == ["name_busy"] * 7 + ["opened"]


async def test_repeats_of_one_upload_at_once_are_one_upload(site):
    answers = await asyncio.gather(*(open_one(site, "a") for _ in range(8)))

    assert len({answer.uuid for answer in answers}) == 1


@pytest.mark.parametrize("names", list(itertools.permutations(["a", "a/b", "a/b/c"])), ids=" ".join)
async def test_of_names_within_one_another_at_once_one_is_opened(site, names):
    for number in range(ROUNDS // 2):
        answers = await asyncio.gather(*(open_one(site, f"{number}/{name}") for name in names))

        assert codes_of(answers) == ["name_nested", "name_nested", "opened"]


async def test_lists_of_the_same_names_in_opposite_orders_neither_wait_for_each_other_nor_share_a_name(site):
    names = [f"n/{number}" for number in range(100)]
    lists = [[asking(name) for name in order] for order in (names, names[::-1])]

    one, other = await asyncio.gather(
        *(intake.open_uploads(site, caller, asked) for caller, asked in zip(CALLERS, lists, strict=False))
    )

    opened = [answer.name for answer in (*one, *other) if isinstance(answer, Incoming)]
    assert sorted(opened) == sorted(names)


async def test_an_upload_and_an_offer_within_one_another_at_once_do_not_both_get_their_names(site):
    async with site.catalog.begin() as tx:
        peer = await tx.peers.add(
            SiteName("nersc"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
        )
    for number, (upload, clone) in enumerate([("a", "a/b"), ("a/b", "a"), ("a", "a")] * 4):
        offered, opened = await asyncio.gather(
            verdicts.answer_offer(site, peer, [a_clone(f"{number}/{clone}")], lease=ClonePolicy().busy_lease),
            open_one(site, f"{number}/{upload}"),
        )

        assert [offered[0].verdict == "accepted", isinstance(opened, Incoming)].count(True) == 1


def a_clone(name) -> OfferedClone:
    return OfferedClone(
        uuid=str(uuid.uuid4()),
        name=name,
        kind="file",
        size=5,
        checksum=checksum_of(b"truth"),
        uploader="ana",
        origin="nersc",
        created_at=utc_now(),
    )


async def test_the_same_offer_twice_at_once_is_one_arrival(site):
    async with site.catalog.begin() as tx:
        peer = await tx.peers.add(
            SiteName("nersc"), url="", username="", secret=b"", reach=Reach.PUSH, accepts=[""], entry_points=[]
        )
    clones = [a_clone(f"{number}") for number in range(20)]

    one, other = await asyncio.gather(
        *(verdicts.answer_offer(site, peer, clones, lease=ClonePolicy().busy_lease) for _ in range(2))
    )

    assert one == other
    assert {verdict.verdict for verdict in one} == {"accepted"}


async def test_room_is_promised_once_to_all_who_ask_at_once(site):
    free = (await site.stores.lookup("fast").capacity()).free_bytes

    answers = await asyncio.gather(
        *(open_one(site, f"{number}", by=caller, size=free * 4 // 10) for number, caller in enumerate(CALLERS))
    )

    assert codes_of(answers) == ["no_room"] * 6 + ["opened"] * 2


async def test_of_a_commit_and_a_cancel_at_once_the_answers_tell_the_truth(site):
    for name in map(str, range(ROUNDS)):
        upload = await brought(site, name)

        committed, cancelled = await asyncio.gather(
            intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(b"truth"))]),
            intake.cancel(site, ANA, upload.uuid),
            return_exceptions=True,
        )

        state = (await now_of(site, upload)).state
        was_cancelled = isinstance(cancelled, Incoming)
        assert was_cancelled is (state is TransferState.CANCELLED)
        assert was_cancelled or committed[0].state is TransferState.STAGED
