"""A receiver loses a copy: the sender hears, brings it again, and hears when one is back."""

import pytest

from librarian.names import FileName, RuleName
from librarian.states import Presence
from tests.clone_fixtures import until

GOOD = b"truth"
BAD = b"liess"


async def lose(receiver, name, *, member="", content=None):
    """The bytes of the copy are gone, or (*content*) others; somebody doubts it, and it is read again."""
    place = receiver.folder / "fast" / name / member
    place.chmod(0o644)
    if content is None:
        place.unlink()
    else:
        place.write_bytes(content)
    async with receiver.site.catalog.begin() as tx:
        await tx.suspects.mark([file.id for file in (await tx.files.named([FileName(name)])).values()])
    receiver.site.bells.ring("reread")


async def story(site, name):
    """What happened to *name*, whether or not a machine was so slow that something was asked about again."""
    async with site.site.catalog.read() as tx:
        told = [happening.what for happening in await tx.events.story_of(name)]
    return [what for what in told if not what.startswith("taken up again")]


async def is_present(site, name) -> bool:
    async with site.site.catalog.read() as tx:
        files = await tx.files.named([FileName(name)])
        copies = await tx.instances.of_files([file.id for file in files.values()])
    return [copy.presence for copy in copies] == [Presence.PRESENT]


async def is_held_anew(sender, name) -> bool:
    return (await story(sender, name)).count("held at nersc") == 2


@pytest.fixture
async def holding(pair):
    """A pair that has one file at both sites, by a rule of the sender."""
    sender, receiver = pair
    await sender.replicates_to(receiver)
    await sender.upload({"one": GOOD})
    await sender.knows_copies_at(receiver, ["one"])
    return sender, receiver


async def test_a_copy_that_went_missing_comes_again(holding):
    sender, receiver = holding

    await lose(receiver, "one")

    await until(lambda: is_held_anew(sender, "one"))
    assert await is_present(receiver, "one")
    assert (receiver.folder / "fast" / "one").read_bytes() == GOOD
    assert await story(sender, "one") == ["ingested", "held at nersc", "gone at nersc", "held at nersc"]
    assert await sender.dues(["one"]) == ()


async def test_a_good_copy_takes_the_place_of_a_corrupt_one_which_is_kept_aside(holding):
    sender, receiver = holding

    await lose(receiver, "one", content=BAD)

    await until(lambda: is_held_anew(sender, "one"))
    (kept,) = (receiver.folder / "fast-staging" / ".quarantine").iterdir()
    (alert,) = await receiver.alerts()
    assert (receiver.folder / "fast" / "one").read_bytes() == GOOD
    assert kept.read_bytes() == BAD
    assert kept.name in alert.remedy
    assert "a good one has taken its place" in alert.message
    assert "corrupt copy set aside" in await story(receiver, "one")


async def test_a_corrupt_book_is_replaced_as_a_whole(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver)
    await sender.upload_book("book", {"a": GOOD, "deep/b": b"deep"})
    await sender.knows_copies_at(receiver, ["book"])
    inside = receiver.folder / "fast" / "book"

    await lose(receiver, "book", member="a", content=BAD)

    await until(lambda: is_held_anew(sender, "book"))
    (kept,) = (receiver.folder / "fast-staging" / ".quarantine").iterdir()
    assert (inside / "a").read_bytes() == GOOD
    assert ((kept / "a").read_bytes(), (kept / "deep" / "b").read_bytes()) == (BAD, b"deep")


async def test_a_copy_that_returns_by_itself_is_told_to_whoever_heard_of_its_loss(holding):
    sender, receiver = holding
    async with sender.site.catalog.begin() as tx:
        rule = await tx.rules.find(RuleName("to-nersc"))
        await tx.rules.switch_off(rule.id)

    await lose(receiver, "one")

    async def is_known_as_lost() -> bool:
        return await sender.remote_instances(["one"]) == {"one": set()}

    await until(is_known_as_lost)
    await receiver.upload({"one": GOOD})
    await sender.knows_copies_at(receiver, ["one"])
    assert await story(sender, "one") == ["ingested", "held at nersc", "gone at nersc", "held at nersc"]


async def test_a_loss_that_was_told_before_the_catalog_came_back_is_told_again(holding):
    sender, receiver = holding
    async with sender.site.catalog.begin() as tx:
        rule = await tx.rules.find(RuleName("to-nersc"))
        await tx.rules.switch_off(rule.id)
    await lose(receiver, "one")

    async def is_told() -> bool:
        return "gone at nersc" in await story(sender, "one")

    await until(is_told)
    async with sender.site.catalog.begin() as tx:
        before = (await tx.peers.get("nersc")).seen_seq
        await tx.site.mark_restored("for a test")
    sender.site.bells.ring("deliver")

    async def is_told_again() -> bool:
        async with sender.site.catalog.read() as tx:
            return (await tx.peers.get("nersc")).seen_seq > before

    await until(is_told_again)


async def test_a_uuid_whose_copy_was_lost_is_refused(holding):
    sender, receiver = holding
    async with sender.site.catalog.begin() as tx:
        await tx.rules.switch_off((await tx.rules.find(RuleName("to-nersc"))).id)
    await lose(receiver, "one")

    async def is_lost() -> bool:
        return "found missing on fast" in await story(receiver, "one")

    await until(is_lost)
    (sent,) = await sender.outgoing()
    file = await sender.file("one")
    clone = {
        "uuid": sent.uuid,
        "name": file.name,
        "kind": file.kind,
        "size": file.size,
        "checksum": file.checksum,
        "uploader": file.uploader,
        "origin": file.origin,
        "created_at": file.created_at.isoformat(),
    }

    reply = await receiver.live.call("POST", "/api/v1/clones", user=sender.name, body={"clones": [clone]})

    (verdict,) = reply.json["verdicts"]
    assert (verdict["verdict"], verdict["code"]) == ("refused", "copy_lost")
