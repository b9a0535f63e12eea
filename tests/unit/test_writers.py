"""Writers: one pen per upload, or one per member; silent writers give way."""

import asyncio
from datetime import timedelta

import pytest

from librarian.errors import NameBusy
from librarian.writers import Writers


@pytest.fixture
def writers() -> Writers:
    return Writers()


async def test_a_second_writer_is_refused(writers):
    async with writers.hold("a"):
        with pytest.raises(NameBusy):
            async with writers.hold("a"):
                pass


async def test_a_pen_that_was_dropped_may_be_taken(writers):
    async with writers.hold("a"):
        pass

    async with writers.hold("a") as pen:
        assert pen.uuid == "a"


async def test_members_are_written_side_by_side_but_each_by_one(writers):
    async with writers.hold("a", part="x"), writers.hold("a", part="y"):
        with pytest.raises(NameBusy):
            async with writers.hold("a", part="x"):
                pass


async def test_the_whole_is_not_written_beside_a_member(writers):
    async with writers.hold("a", part="x"):
        with pytest.raises(NameBusy):
            async with writers.hold("a"):
                pass


async def test_a_member_is_not_written_beside_the_whole(writers):
    async with writers.hold("a"):
        with pytest.raises(NameBusy):
            async with writers.hold("a", part="x"):
                pass


async def test_many_are_held_as_far_as_they_are_free(writers):
    async with writers.hold("b"), writers.hold_free(["a", "b", "c", "a"]) as free:
        assert free == {"a", "c"}


async def test_a_silent_writer_is_stopped(writers):
    begun = asyncio.Event()

    async def write():
        async with writers.hold("a"):
            begun.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(write())
    await begun.wait()

    async with writers.hold("a", patience=timedelta(0)):
        assert writing.cancelled() or writing.done() or writing.cancelling()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_every_chunk_is_a_sign_of_life(writers):
    async def chunks():
        yield b"1"
        yield b"2"

    async with writers.hold("a") as pen:
        idle_before = pen.is_idle(timedelta(0))
        written = [chunk async for chunk in pen.write_down(chunks())]

    assert (idle_before, written) == (True, [b"1", b"2"])


async def test_a_clone_whose_uuid_a_peer_chose_is_in_nobody_elses_way(writers):
    async with (
        writers.hold("a"),
        writers.hold("a", peer=1),
        writers.join(["a"], peer=2) as joined,
        writers.hold_free(["a"], peer=1) as held,
        writers.hold_free(["a"], peer=3) as free,
    ):
        assert (joined, held, free) == ({"a"}, set(), {"a"})
