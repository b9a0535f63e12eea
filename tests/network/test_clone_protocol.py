"""What a peer may say, and what it gets when it says anything else."""

import json
import uuid

import pytest

from librarian.catalog.files import NewFile
from librarian.checksum import Checksum
from librarian.names import FileName, Token
from librarian.states import Kind, Role, TransferState
from librarian.timing import utc_now
from tests.clone_fixtures import party
from tests.site_fixtures import create_account

CHECKSUM = "xxh3:" + "0" * 32
WHEN = "2026-11-24T00:00:00Z"


@pytest.fixture
async def receiver(urls, tmp_path):
    """nersc: chajnantor may offer to it, princeton too, berkeley only receives from it. No task runs."""
    async with party(urls[0], tmp_path / "nersc", "nersc", tasks=False) as opened:
        for name, role in (("chajnantor", "upstream"), ("princeton", "upstream"), ("berkeley", "callback")):
            await create_account(opened.site, name, Role(role))
            async with opened.site.catalog.begin() as tx:
                await tx.peers.add(
                    name,
                    url="http://localhost:9",
                    username="nersc",
                    secret=b"",
                    reach="push",
                    accepts=[""],
                    entry_points=[],
                )
        yield opened


def a_clone(name="one", *, size=3, checksum=CHECKSUM, **more) -> dict[str, object]:
    return {
        "uuid": str(uuid.uuid4()),
        "name": name,
        "kind": "file",
        "size": size,
        "checksum": checksum,
        "uploader": "ana",
        "origin": "chajnantor",
        "created_at": WHEN,
        **more,
    }


async def offer(receiver, *clones, user="chajnantor"):
    reply = await receiver.live.call("POST", "/api/v1/clones", user=user, body={"clones": clones})
    assert reply.status == 200, reply.raw
    return reply.json["verdicts"]


def a_notice(seq, clone, state="staged", **more) -> dict[str, object]:
    subject = clone["name"] if state in ("held", "gone") else clone["uuid"]
    about = {key: clone[key] for key in ("name", "size", "checksum")}
    return {"seq": seq, "subject": subject, "state": state, **about, **more}


async def tell(receiver, *notices, user="chajnantor", epoch=1):
    reply = await receiver.live.call(
        "POST", "/api/v1/clones/notices", user=user, body={"site": user, "epoch": epoch, "notices": notices}
    )
    assert reply.status == 200, reply.raw
    return [answer["answer"] for answer in reply.json["answers"]]


async def state_of(receiver, clone) -> TransferState:
    return next(t.state for t in await receiver.incoming() if t.uuid == clone["uuid"])


async def send(receiver, tokens, *frames, user="chajnantor"):
    lines = [json.dumps({"tokens": tokens}).encode() + b"\n"]
    for header, content in frames:
        lines += [json.dumps(header).encode() + b"\n", content]
    return await receiver.live.call("POST", "/api/v1/clones/content", user=user, data=b"".join(lines))


async def test_the_same_offer_again_gets_the_same_verdicts(receiver):
    clones = [a_clone("one"), a_clone("two")]

    assert await offer(receiver, *clones) == await offer(receiver, *clones)
    assert len(await receiver.incoming()) == 2


async def test_an_accepted_clone_finds_its_staging_made(receiver):
    (verdict,) = await offer(receiver, a_clone())

    assert (receiver.folder / "fast-staging" / verdict["token"]).is_dir()


async def test_an_offer_whose_directory_was_lost_makes_it_again(receiver):
    clone = a_clone()
    (verdict,) = await offer(receiver, clone)
    directory = receiver.folder / "fast-staging" / verdict["token"]
    directory.rmdir()

    await offer(receiver, clone)

    assert directory.is_dir()


async def test_a_uuid_with_other_content_is_refused(receiver):
    clone = a_clone()
    await offer(receiver, clone)

    (verdict,) = await offer(receiver, {**clone, "size": 4})

    assert (verdict["verdict"], verdict["code"]) == ("refused", "uuid_reused")


async def test_two_peers_may_choose_the_same_uuid_and_get_different_tokens(receiver):
    one = a_clone("one")
    other = {**a_clone("other"), "uuid": one["uuid"]}

    (mine,), (theirs,) = await offer(receiver, one), await offer(receiver, other, user="princeton")

    assert mine["token"] != theirs["token"]


@pytest.mark.parametrize("name", ["../escape", "/absolute", "a/../b", ".librarian-x", "", "a//b", "a\x00b", "a/"])
async def test_names_that_escape_are_refused(receiver, name):
    reply = await receiver.live.call("POST", "/api/v1/clones", user="chajnantor", body={"clones": [a_clone(name)]})

    assert reply.status == 400


async def test_one_name_within_another_of_the_same_offer_is_refused(receiver):
    verdicts = await offer(receiver, a_clone("a"), a_clone("a/b"), a_clone("c/d"), a_clone("c"))

    assert [verdict["verdict"] for verdict in verdicts] == ["accepted", "refused", "accepted", "refused"]


async def test_a_second_arrival_of_a_name_is_busy_and_other_content_is_refused(receiver):
    await offer(receiver, a_clone("one"))

    same, other = (
        await offer(receiver, a_clone("one"), user="princeton"),
        await offer(receiver, a_clone("one", checksum="xxh3:" + "1" * 32), user="princeton"),
    )

    assert same[0]["verdict"] == "busy"
    assert (other[0]["verdict"], other[0]["code"]) == ("refused", "name_busy")


async def test_more_than_fits_is_refused_alone(receiver):
    verdicts = await offer(receiver, a_clone("huge", size=2**60), a_clone("small"))

    assert [verdict["verdict"] for verdict in verdicts] == ["refused", "accepted"]
    assert verdicts[0]["code"] == "no_room"


async def test_a_thousand_offers_cost_a_handful_of_statements(receiver):
    clones = [a_clone(f"{number}") for number in range(1000)]
    before = receiver.site.catalog.statements

    await offer(receiver, *clones)

    assert receiver.site.catalog.statements - before <= 12


async def test_staged_is_heard_once_and_only_from_the_peer_that_offered(receiver):
    clone = a_clone()
    await offer(receiver, clone)

    strangers = await tell(receiver, a_notice(1, clone), user="princeton")
    first, again = await tell(receiver, a_notice(1, clone)), await tell(receiver, a_notice(1, clone))

    assert (strangers, first, again) == (["refused"], ["applied"], ["ignored"])
    assert await state_of(receiver, clone) is TransferState.STAGED


async def test_an_older_word_than_the_last_is_ignored(receiver):
    clone = a_clone()
    await offer(receiver, clone)

    answers = [
        await tell(receiver, a_notice(7, clone, "cancelled")),
        await tell(receiver, a_notice(3, clone, "staged")),
    ]

    assert answers == [["applied"], ["ignored"]]
    assert await state_of(receiver, clone) is TransferState.CANCELLED


async def test_of_several_words_about_one_clone_in_one_message_the_last_counts(receiver):
    clone = a_clone()
    await offer(receiver, clone)

    answers = await tell(receiver, a_notice(2, clone, "cancelled"), a_notice(1, clone, "staged"))

    assert answers == ["applied", "ignored"]
    assert await state_of(receiver, clone) is TransferState.CANCELLED


async def test_a_word_about_other_content_is_refused(receiver):
    clone = a_clone()
    await offer(receiver, clone)

    assert await tell(receiver, a_notice(1, {**clone, "size": 4})) == ["refused"]
    assert await state_of(receiver, clone) is TransferState.INITIATED


async def test_an_earlier_epoch_is_told_to_speak_again(receiver):
    clone = a_clone()
    await offer(receiver, clone)
    await tell(receiver, epoch=5)

    assert await tell(receiver, a_notice(1, clone), epoch=4) == ["later"]


async def test_a_peer_that_only_receives_can_neither_offer_nor_stage(receiver):
    clone = a_clone()
    await offer(receiver, clone)

    refused = await receiver.live.call("POST", "/api/v1/clones", user="berkeley", body={"clones": [a_clone("x")]})

    assert refused.status == 403
    assert await tell(receiver, a_notice(1, clone), user="berkeley") == ["refused"]


async def test_a_peer_learns_nothing_about_files_that_were_not_offered_to_it(receiver):
    ours = a_clone("ours")
    await has_file(receiver, ours)

    of_ours = await tell(receiver, a_notice(1, ours, "held"), a_notice(2, ours, "failed"), user="berkeley")
    of_nothing = await tell(receiver, a_notice(3, a_clone("nothing"), "held"), user="berkeley")

    assert (of_ours, of_nothing) == (["refused", "refused"], ["refused"])
    assert await receiver.remote_instances(["ours"]) == {"ours": set()}


async def has_file(receiver, clone) -> None:
    new = NewFile(
        name=FileName(clone["name"]),
        kind=Kind.FILE,
        size=clone["size"],
        checksum=Checksum(clone["checksum"]),
        uploader="ana",
        origin="nersc",
        created_at=utc_now(),
    )
    async with receiver.site.catalog.begin() as tx:
        await tx.files.add([new])


async def test_an_account_cannot_speak_for_another_site(receiver):
    reply = await receiver.live.call(
        "POST", "/api/v1/clones/notices", user="chajnantor", body={"site": "princeton", "epoch": 1, "notices": []}
    )

    assert reply.status == 400


async def test_an_account_without_a_peer_may_not_offer(receiver):
    await create_account(receiver.site, "stranger", Role.UPSTREAM)

    reply = await receiver.live.call("POST", "/api/v1/clones", user="stranger", body={"clones": [a_clone()]})

    assert reply.status == 403


async def test_states_are_told_to_the_peer_whose_transfer_it_is_alone(receiver):
    clone = a_clone()
    await offer(receiver, clone)
    question = {"offered": [clone["uuid"]], "taken": []}

    mine = await receiver.live.call("POST", "/api/v1/clones/states", user="chajnantor", body=question)
    theirs = await receiver.live.call("POST", "/api/v1/clones/states", user="princeton", body=question)

    assert [state["state"] for state in mine.json["offered"]] == ["initiated"]
    assert theirs.json == {"offered": [], "taken": []}


async def test_content_goes_only_where_the_peer_may_write(receiver):
    (mine,) = await offer(receiver, a_clone("one"))
    (theirs,) = await offer(receiver, a_clone("two"), user="princeton")

    reply = await send(
        receiver,
        [mine["token"], theirs["token"], Token.mint()],
        ({"token": 0, "size": 3}, b"abc"),
        ({"token": 1, "size": 3}, b"abc"),
        ({"token": 2, "size": 3}, b"abc"),
    )

    staging = receiver.folder / "fast-staging"
    assert reply.json["frames"] == 1
    assert [refusal["problem"]["code"] for refusal in reply.json["refused"]] == ["not_found", "not_found"]
    assert (staging / mine["token"] / "payload").read_bytes() == b"abc"
    assert list((staging / theirs["token"]).iterdir()) == []


async def test_more_content_than_was_offered_is_refused(receiver):
    (verdict,) = await offer(receiver, a_clone(size=3))

    reply = await send(receiver, [verdict["token"]], ({"token": 0, "size": 4}, b"abcd"))

    assert [refusal["problem"]["code"] for refusal in reply.json["refused"]] == ["too_large"]


async def test_a_staged_clone_takes_no_more_bytes(receiver):
    clone = a_clone()
    (verdict,) = await offer(receiver, clone)
    await send(receiver, [verdict["token"]], ({"token": 0, "size": 3}, b"abc"))
    await tell(receiver, a_notice(1, clone))

    reply = await send(receiver, [verdict["token"]], ({"token": 0, "size": 3}, b"xyz"))

    assert [refusal["problem"]["code"] for refusal in reply.json["refused"]] == ["not_found"]
    assert (receiver.folder / "fast-staging" / verdict["token"] / "payload").read_bytes() == b"abc"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "a//b"])
async def test_member_paths_that_escape_are_refused(receiver, path):
    clone = a_clone(kind="book", checksum="book1-xxh3:" + "0" * 32)
    (verdict,) = await offer(receiver, clone)

    reply = await send(receiver, [verdict["token"]], ({"token": 0, "path": path, "size": 3}, b"abc"))

    assert reply.status == 400 or reply.json["refused"]
    assert not any(receiver.folder.rglob("x"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"garbage",
        b'{"tokens": []}\ngarbage\n',
        b'{"tokens": ["../../etc"]}\n',
        b'{"tokens": []}\n{"token": 0, "size": -1}\n',
        b'{"tokens": []}\n{"token": 0, "size": 10}\nabc',
        b'{"tokens": []}\n' + b"x" * 100_000,
        b"{" * 300_000,
    ],
)
async def test_garbage_instead_of_frames_is_refused(receiver, body):
    reply = await receiver.live.call("POST", "/api/v1/clones/content", user="chajnantor", data=body)

    assert reply.status == 400


async def test_what_has_arrived_is_told_to_its_sender_alone(receiver):
    (verdict,) = await offer(receiver, a_clone())
    await send(receiver, [verdict["token"]], ({"token": 0, "size": 2}, b"ab"))
    question = {"tokens": [verdict["token"]]}

    mine = await receiver.live.call("POST", "/api/v1/clones/content/state", user="chajnantor", body=question)
    theirs = await receiver.live.call("POST", "/api/v1/clones/content/state", user="princeton", body=question)

    assert mine.json["contents"] == [{"token": verdict["token"], "members": [{"path": None, "size": 2}]}]
    assert theirs.json == {"contents": []}


async def test_a_probe_is_read_by_the_peer_that_asked_for_it_alone(receiver):
    staged = await receiver.live.call(
        "POST", "/api/v1/clones/probe", user="chajnantor", body={"store": "fast", "size": 10}
    )
    question = {"token": staged.json["token"]}

    strangers = await receiver.live.call("POST", "/api/v1/clones/probe/read", user="princeton", body=question)
    own = await receiver.live.call("POST", "/api/v1/clones/probe/read", user="chajnantor", body=question)
    again = await receiver.live.call("POST", "/api/v1/clones/probe/read", user="chajnantor", body=question)

    assert (strangers.status, own.status, again.status) == (404, 200, 404)
    assert own.json["is_removed"] is True


async def test_what_a_newer_peer_adds_to_its_words_is_tolerated(receiver):
    clone = a_clone("one", of_a_newer_release={"a": [1]})
    (verdict,) = await offer(receiver, clone)
    notice = a_notice(1, clone, of_a_newer_release=True)

    told = await tell(receiver, notice)
    asked = await receiver.live.call(
        "POST", "/api/v1/clones/states", user="chajnantor", body={"offered": [clone["uuid"]], "more": "x"}
    )

    assert (verdict["verdict"], told, asked.status) == ("accepted", ["applied"], 200)


async def test_a_word_in_another_protocol_is_refused_with_both_versions(receiver):
    reply = await receiver.live.call(
        "POST", "/api/v1/clones/states", user="chajnantor", body={}, headers={"Librarian-Protocol": "7"}
    )

    assert (reply.status, reply.json["code"], reply.json["details"]) == (400, "protocol_mismatch", {"protocol": 1})
    assert "speaks protocol 1, the request is in '7'" in reply.json["message"]
