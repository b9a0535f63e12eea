"""Remote clones through Globus, between real sites, over a service of our own that really copies."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from librarian.settings import CollectionSettings, GlobusSettings
from librarian.states import BatchState, TransferState
from tests.clone_fixtures import POLICY, Party, acquaint, party, until
from tests.fakes.globus import FakeGlobus, fake_globus, pointed_at


@dataclass
class Pair:
    """Two sites, each a client of Globus with a collection over its folder."""

    globus: FakeGlobus
    sender: Party
    receiver: Party


def at_globus(globus: FakeGlobus, folder: Path, *, client: tuple[str, str] | None = None):
    """Changes a site's settings: its store is in a collection over *folder*; *client*: who it is, and its secret."""
    client, secret = client or globus.add_client()
    secret_file = folder.with_suffix(".secret")
    secret_file.write_text(secret)
    collection = globus.add_collection(folder)

    def change(settings):
        store = settings.stores[0]
        found = CollectionSettings(collection=collection, root=f"/{store.root.name}", staging=f"/{store.staging.name}")
        return settings.model_copy(
            update={
                "stores": (store.model_copy(update={"globus": found}),),
                "globus": GlobusSettings(client_id=client, client_secret_file=secret_file),
            }
        )

    return change


@pytest.fixture
async def globus_pair(urls, tmp_path):
    async with (
        fake_globus() as globus,
        party(urls[0], tmp_path / "a", "chajnantor", change=at_globus(globus, tmp_path / "a")) as sender,
        party(urls[1], tmp_path / "b", "nersc", change=at_globus(globus, tmp_path / "b")) as receiver,
    ):
        with pointed_at(globus):
            await acquaint(sender, receiver)
            yield Pair(globus, sender, receiver)


async def test_files_and_books_arrive_verified_and_are_known_at_the_source(globus_pair):
    sender, receiver = globus_pair.sender, globus_pair.receiver
    await sender.upload({"a/one": b"one" * 1000, "a/empty": b"", "big": b"x" * 3_000_000})
    await sender.upload_book("book", {"x": b"1", "deep/y": b"2" * 2_000_000, "deep/er/z": b""})

    await sender.replicates_to(receiver, engines=("globus",))

    names = ["a/one", "a/empty", "big", "book"]
    await sender.knows_copies_at(receiver, names)
    assert [(await sender.file(name)).checksum for name in names] == [
        (await receiver.file(name)).checksum for name in names
    ]
    assert (receiver.folder / "fast" / "book" / "deep" / "y").read_bytes() == b"2" * 2_000_000
    assert await sender.dues(names) == ()


async def test_a_batch_is_one_submission_and_what_goes_well_is_asked_about_in_lists_alone(globus_pair):
    sender, receiver, globus = globus_pair.sender, globus_pair.receiver, globus_pair.globus
    names = [f"{number:02}" for number in range(24)]
    await sender.upload({name: name.encode() for name in names})

    await sender.replicates_to(receiver, engines=("globus",), batch_files=8)

    await sender.knows_copies_at(receiver, names)
    assert (globus.requests["submit"], globus.requests["submission_id"], globus.requests["token"]) == (3, 3, 1)
    assert set(globus.requests) == {"submit", "submission_id", "token", "task_list"}


async def test_a_lost_reply_makes_no_second_task(globus_pair):
    globus_pair.globus.cue("lost_reply", on="submit")
    await globus_pair.sender.upload({"one": b"one"})

    await globus_pair.sender.replicates_to(globus_pair.receiver, engines=("globus",))

    await globus_pair.sender.knows_copies_at(globus_pair.receiver, ["one"])
    assert len(globus_pair.globus.tasks) == 1
    assert globus_pair.globus.requests["submit"] == 2


async def test_a_file_that_globus_spoils_is_found_by_the_receiver_and_sent_again(globus_pair):
    globus_pair.globus.cue("corrupt", match="/two")
    await globus_pair.sender.upload({"one": b"one", "two": b"two"})

    await globus_pair.sender.replicates_to(globus_pair.receiver, engines=("globus",))

    await globus_pair.sender.knows_copies_at(globus_pair.receiver, ["one", "two"])
    assert (globus_pair.receiver.folder / "fast" / "two").read_bytes() == b"two"
    assert TransferState.FAILED in {transfer.state for transfer in await globus_pair.sender.outgoing()}


async def test_a_paused_batch_raises_an_alert_and_goes_on_when_the_pause_ends(globus_pair):
    sender, globus = globus_pair.sender, globus_pair.globus
    globus.cue("paused")
    await sender.upload({"one": b"one"})
    await sender.replicates_to(globus_pair.receiver, engines=("globus",))

    async def is_told() -> bool:
        return any("maintenance until Monday" in alert.message for alert in await sender.alerts())

    await until(is_told)
    globus.release()

    await sender.knows_copies_at(globus_pair.receiver, ["one"])


async def test_one_bad_item_is_tried_again_later_and_holds_up_nothing(globus_pair):
    sender, globus = globus_pair.sender, globus_pair.globus
    await sender.upload({"bad": b"bad", "good": b"good"})
    globus.cue("item", code="INVALID_PATH_NAME", match="/bad")

    await sender.replicates_to(globus_pair.receiver, engines=("globus",))

    await sender.knows_copies_at(globus_pair.receiver, ["good", "bad"])
    labels = [task.request["label"] for task in globus.tasks.values()]
    assert (len(labels), len(set(labels))) == (3, 2)


@pytest.mark.parametrize(
    ("cue", "told"),
    [
        ({"what": "forbidden", "on": "submit"}, "does not take a batch to nersc"),
        ({"what": "forbidden", "on": "task_list"}, "cannot be asked about batches"),
        ({"what": "item", "code": "FILE_SIZE_CHANGED", "match": "/one"}, "A copy of one did not read as it should"),
    ],
)
async def test_what_asks_for_a_person_raises_an_alert_and_the_file_arrives_in_the_end(globus_pair, cue, told):
    sender, globus = globus_pair.sender, globus_pair.globus
    globus.cue(**cue)
    await sender.upload({"one": b"one"})

    await sender.replicates_to(globus_pair.receiver, engines=("globus",))

    await sender.knows_copies_at(globus_pair.receiver, ["one"])
    alerts = [alert for alert in await sender.alerts() if told in alert.message]
    assert [bool(alert.remedy) for alert in alerts] == [True]


async def test_a_batch_goes_on_after_a_restart_of_the_sender(urls, tmp_path):
    async with fake_globus() as globus:
        with pointed_at(globus):
            change = at_globus(globus, tmp_path / "a")
            async with party(urls[1], tmp_path / "b", "nersc", change=at_globus(globus, tmp_path / "b")) as receiver:
                async with party(urls[0], tmp_path / "a", "chajnantor", change=change) as sender:
                    await acquaint(sender, receiver)
                    port = sender.port
                    globus.cue("silent")
                    await sender.upload({"one": b"one"})
                    await sender.replicates_to(receiver, engines=("globus",))

                    async def is_submitted() -> bool:
                        return bool(globus.tasks)

                    await until(is_submitted)

                async with party(urls[0], tmp_path / "a", "chajnantor", port=port, change=change) as sender:
                    globus.release()
                    await sender.knows_copies_at(receiver, ["one"])

    assert len(globus.tasks) == 1


async def test_a_task_that_globus_gives_up_puts_no_file_into_quarantine(urls, tmp_path):
    async with fake_globus() as globus:
        change, once = at_globus(globus, tmp_path / "a"), POLICY.model_copy(update={"quarantine_after": 1})
        with pointed_at(globus):
            async with (
                party(urls[0], tmp_path / "a", "chajnantor", change=change, policy=once) as sender,
                party(urls[1], tmp_path / "b", "nersc", change=at_globus(globus, tmp_path / "b")) as receiver,
            ):
                await acquaint(sender, receiver)
                await sender.upload({"one": b"one", "two": b"two", "three": b"three"})
                globus.cue("fails", code="INTERNAL_ERROR", match="/t")

                await sender.replicates_to(receiver, engines=("globus",))

                await sender.knows_copies_at(receiver, ["one", "two", "three"])


async def test_what_stands_on_no_collection_goes_by_the_next_engine_of_the_rule(urls, tmp_path):
    def without_collection(settings):
        return change(settings).model_copy(update={"stores": settings.stores})

    async with fake_globus() as globus:
        change = at_globus(globus, tmp_path / "a")
        with pointed_at(globus):
            async with (
                party(urls[0], tmp_path / "a", "chajnantor", change=without_collection) as sender,
                party(urls[1], tmp_path / "b", "nersc", change=at_globus(globus, tmp_path / "b")) as receiver,
            ):
                await acquaint(sender, receiver)
                await sender.upload({"one": b"one"})

                await sender.replicates_to(receiver, engines=("globus", "http"))

                await sender.knows_copies_at(receiver, ["one"])

    assert globus.requests["submit"] == 0


async def test_a_task_of_a_cancelled_transfer_is_stopped_although_its_acceptance_was_never_heard(globus_pair):
    sender, globus = globus_pair.sender, globus_pair.globus
    globus.cue("silent")
    globus.cue("lost_reply", on="submit")
    globus.cue("unavailable", on="submit", times=99)
    await sender.upload({"one": b"one"})
    await sender.replicates_to(globus_pair.receiver, engines=("globus",))
    await until(lambda: has_tasks(globus, ["ACTIVE"]))
    (transfer,) = await sender.outgoing()

    cancelled = await sender.live.call("POST", "/api/v1/transfers/cancel", body={"uuids": [transfer.uuid]})

    assert cancelled.status == 200
    await until(lambda: has_tasks(globus, ["FAILED"]))
    await until(lambda: has_batches(sender, [BatchState.CANCELLED]))


async def test_a_task_whose_acceptance_was_never_heard_is_stopped_when_its_peer_is_paused(globus_pair):
    sender, globus = globus_pair.sender, globus_pair.globus
    globus.cue("silent")
    globus.cue("lost_reply", on="submit")
    globus.cue("unavailable", on="submit", times=99)
    await sender.upload({"one": b"one"})
    await sender.replicates_to(globus_pair.receiver, engines=("globus",))
    await until(lambda: has_tasks(globus, ["ACTIVE"]))

    await sender.live.call("PATCH", "/api/v1/peers/nersc", body={"flow": "paused"})

    await until(lambda: has_tasks(globus, ["FAILED"]))
    globus.cues.waiting.clear()
    await sender.live.call("PATCH", "/api/v1/peers/nersc", body={"flow": "open"})
    await sender.knows_copies_at(globus_pair.receiver, ["one"])


async def test_hours_of_silence_are_told_although_the_sender_was_restarted_and_end_by_themselves(urls, tmp_path):
    async with fake_globus() as globus:
        change = at_globus(globus, tmp_path / "a")
        with pointed_at(globus):
            async with party(urls[1], tmp_path / "b", "nersc", change=at_globus(globus, tmp_path / "b")) as receiver:
                async with party(urls[0], tmp_path / "a", "chajnantor", change=change) as sender:
                    await acquaint(sender, receiver)
                    port = sender.port
                    globus.cue("silent")
                    await sender.upload({"one": b"one"})
                    await sender.replicates_to(receiver, engines=("globus",))
                    await until(lambda: is_silent(sender))

                async with party(
                    urls[0], tmp_path / "a", "chajnantor", port=port, change=change, tasks=False
                ) as stopped:
                    await silent_for(stopped, timedelta(hours=7))

                async with party(urls[0], tmp_path / "a", "chajnantor", port=port, change=change) as sender:
                    await until(lambda: is_alerted(sender, "nothing got done for 6:00:00"))
                    globus.release()
                    await sender.knows_copies_at(receiver, ["one"])

    assert len(globus.tasks) == 1


async def test_two_sites_of_one_account_share_what_globus_takes_of_it(urls, tmp_path):
    async with fake_globus() as globus:
        client = globus.add_client()
        globus.most_pending = 2
        ours, others = (at_globus(globus, tmp_path / name, client=client) for name in ("a", "c"))
        with pointed_at(globus):
            async with (
                party(urls[0], tmp_path / "a", "chajnantor", change=ours) as site,
                party(urls[2], tmp_path / "c", "paranal", change=others) as other,
                party(urls[1], tmp_path / "b", "nersc", change=at_globus(globus, tmp_path / "b")) as receiver,
            ):
                await acquaint(site, receiver)
                await acquaint(other, receiver)
                globus.cue("silent")
                await other.upload({"theirs/1": b"1", "theirs/2": b"2"})
                await other.replicates_to(receiver, engines=("globus",), batch_files=1, match=("theirs/*",))
                await until(lambda: has_tasks(globus, ["ACTIVE", "SUCCEEDED"]))
                globus.most_pending = 1
                await site.upload({"ours/1": b"1", "ours/2": b"2"})
                await site.replicates_to(receiver, engines=("globus",), batch_files=1, match=("ours/*",))
                await until(lambda: is_told_full(site))
                submitted = globus.requests["submit"]

                globus.release()

                await site.knows_copies_at(receiver, ["ours/1", "ours/2"])
                await other.knows_copies_at(receiver, ["theirs/1", "theirs/2"])
                async with site.site.catalog.read() as tx:
                    batches = (await tx.batches.with_ids([1, 2])).values()
                assert [(batch.state, batch.attempts) for batch in batches] == [(BatchState.DELIVERED, 0)] * 2
                assert (*await site.alerts(), *await other.alerts()) == ()
                assert submitted < 20


async def has_tasks(globus: FakeGlobus, statuses: list[str]) -> bool:
    return sorted(task.status for task in globus.tasks.values()) == statuses


async def has_batches(site: Party, states: list[BatchState]) -> bool:
    async with site.site.catalog.read() as tx:
        return [batch.state for batch in (await tx.batches.with_ids(range(1, 10))).values()] == states


async def silent_for(site: Party, span: timedelta) -> None:
    """The catalog says that nothing got done for *span*."""
    async with site.site.catalog.begin() as tx:
        (batch,) = await tx.batches.begun(limit=10)
        since = batch.silent_since - span
        await tx.batches.progress(
            batch.id, state=batch.state, bytes_done=0, reason=None, silent_since=since, next_try_at=since
        )


async def is_alerted(site: Party, told: str) -> bool:
    return any(told in alert.message for alert in await site.alerts())


async def is_silent(site: Party) -> bool:
    async with site.site.catalog.read() as tx:
        return any(batch.silent_since for batch in await tx.batches.begun(limit=10))


async def is_told_full(site: Party) -> bool:
    async with site.site.catalog.read() as tx:
        reasons = [batch.reason or "" for batch in await tx.batches.begun(limit=10)]
    return len(reasons) == 2 and all("as many tasks of this account" in reason for reason in reasons)
