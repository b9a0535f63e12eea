"""Remote clones between two real servers on loopback, on both databases."""

import pytest


@pytest.mark.parametrize("engine", ["http", "local"])
async def test_files_and_books_arrive_verified_and_are_known_at_the_source(pair, engine):
    sender, receiver = pair
    await sender.replicates_to(receiver, engines=(engine,))

    await sender.upload({"a/one": b"one" * 1000, "a/empty": b"", "big": b"x" * 3_000_000})
    await sender.upload_book("book", {"x": b"1", "deep/y": b"2" * 2_000_000, "deep/er/z": b""})

    names = ["a/one", "a/empty", "big", "book"]
    await sender.knows_copies_at(receiver, names)
    for name in names:
        ours, theirs = await sender.file(name), await receiver.file(name)
        assert (ours.checksum, ours.size, ours.origin, ours.uploader, ours.created_at) == (
            theirs.checksum,
            theirs.size,
            theirs.origin,
            theirs.uploader,
            theirs.created_at,
        )
    assert await sender.dues(names) == ()
    assert (receiver.folder / "fast" / "book" / "deep" / "y").read_bytes() == b"2" * 2_000_000
