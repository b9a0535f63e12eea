"""Peers that answer nonsense: it is never believed, costs time and nothing else, and hurts no other peer."""

import json
import uuid
from datetime import timedelta

import pytest

from librarian.errors import PeerUnavailable
from librarian.names import FileName, SiteName, Token
from librarian.replication import Assertion, note
from librarian.states import DueState, TransferState
from librarian.tasks.deliver import Deliver
from librarian.timing import plenty_of_time, utc_now
from librarian.wire.clones import LATEST_EPOCH, AskStates, Notice, Notices, OfferClones, OfferedClone
from tests.clone_fixtures import acquaint, party, until
from tests.fakes.rude_peer import rude_peer

UUID = str(uuid.uuid4())
OTHER = str(uuid.uuid4())
CHECKSUM = "xxh3:" + "0" * 32
TOKEN = "0" * 32
NOT_JSON = [b"", b"garbage", b"<html>Welcome</html>", b"{", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 200_000]
NO_ANSWER = [*NOT_JSON, b"null", b"[]", b"1", b'"accepted"', b"{}", b'{"verdicts": null}', b'{"answers": 7}']


def verdict(**changes) -> bytes:
    given = {"verdict": "accepted", "uuid": UUID, "token": TOKEN, "store": "fast", **changes}
    return json.dumps({"verdicts": [given]}).encode()


NO_VERDICTS = [
    b'{"verdicts": []}',
    verdict(uuid=OTHER),
    verdict(verdict="perhaps"),
    verdict(token="../../../etc"),
    verdict(token=TOKEN + "\n"),
    verdict(token=None),
    verdict(store="../fast"),
    verdict(store=""),
    verdict(verdict="held", size=-1, checksum=CHECKSUM),
    verdict(verdict="held", size=10**30, checksum=CHECKSUM),
    verdict(verdict="held", size=3, checksum="xxh3:/etc/passwd"),
    verdict(verdict="busy", until="soon", reason="x"),
    verdict(verdict="refused", code="x", reason="a\0b"),
    verdict(verdict="refused", code="\0", reason="x"),
    verdict(verdict="refused", code="x", reason=5),
]


def answers(seq=1, answer="applied", *, epoch=1, seen=1, problem=None) -> bytes:
    each = {"seq": seq, "answer": answer, "problem": problem}
    return json.dumps({"answers": [each], "seen_epoch": epoch, "seen_seq": seen}).encode()


NO_ANSWERS = [
    b'{"answers": [], "seen_epoch": 1, "seen_seq": 1}',
    answers(seq=2),
    answers(answer="perhaps"),
    answers(epoch=10**30),
    answers(epoch=2**63 - 1),
    answers(epoch=10**15),
    # By no clock of ours: beyond it there is none left for us, or soon will be none.
    answers(epoch=LATEST_EPOCH),
    answers(epoch=LATEST_EPOCH - 1),
    answers(epoch=int((utc_now() + timedelta(days=730)).timestamp() * 1000)),
    answers(epoch=-1),
    answers(seen=10**30),
    answers(answer="refused", problem={"code": "x", "message": "a\0b"}),
    answers(answer="refused", problem="no"),
]


@pytest.fixture
async def asking(sqlite_url, tmp_path):
    """A site whose peer nersc is nobody but the rude one."""
    async with party(sqlite_url, tmp_path / "a", "chajnantor", tasks=False) as sender, rude_peer("") as rude:
        site = sender.site
        async with site.catalog.begin() as tx:
            await tx.peers.add(
                SiteName("nersc"),
                url=rude.url,
                username="chajnantor",
                secret=site.neighbours.secrets.encrypt("secret"),
                reach="push",
                accepts=[""],
                entry_points=[],
            )
        yield site, rude


async def beliefs(rude, path, nonsense, ask) -> list[bytes]:
    """Those of the *nonsense* that ``ask`` takes for an answer."""
    believed = []
    for said in nonsense:
        rude.says(path, said)
        try:
            await ask()
        except PeerUnavailable:
            continue
        believed.append(said)
    return believed


async def test_no_nonsense_is_taken_for_verdicts(asking):
    site, rude = asking
    neighbours = site.neighbours
    clone = OfferedClone(
        uuid=UUID,
        name="one",
        kind="file",
        size=3,
        checksum=CHECKSUM,
        uploader="ana",
        origin="chajnantor",
        created_at=utc_now(),
    )

    believed = await beliefs(
        rude, "/clones", NO_ANSWER + NO_VERDICTS, lambda: neighbours.offer("nersc", OfferClones(clones=[clone]))
    )

    assert believed == []


async def test_no_nonsense_is_taken_for_answers_to_notices(asking):
    site, rude = asking
    neighbours = site.neighbours
    notice = Notice(seq=1, subject=UUID, state="staged", name="one", size=3, checksum=CHECKSUM)
    notices = Notices(site="chajnantor", epoch=1, notices=[notice])

    believed = await beliefs(
        rude, "/clones/notices", NO_ANSWER + NO_ANSWERS, lambda: neighbours.notify("nersc", notices)
    )

    assert believed == []


async def test_no_nonsense_is_taken_for_states_content_or_a_site(asking):
    site, rude = asking
    neighbours = site.neighbours
    members = [{"path": None, "size": -1}], [{"path": None, "size": 10**30}], [{"path": 5, "size": 1}], None
    contents = [json.dumps({"contents": [{"token": TOKEN, "members": each}]}).encode() for each in members]
    points = [{"store": 1}], [{"store": "a\0b", "engine": "http"}], "fast"
    sites = [json.dumps({"name": "nersc", "entry_points": each}).encode() for each in points]

    believed = [
        *await beliefs(
            rude, "/clones/states", NO_ANSWER, lambda: neighbours.states("nersc", AskStates(offered=[UUID], taken=[]))
        ),
        *await beliefs(
            rude,
            "/clones/content/state",
            NO_ANSWER + contents,
            lambda: neighbours.staged_content("nersc", [Token(TOKEN)]),
        ),
        *await beliefs(rude, "/site", NO_ANSWER + sites, lambda: neighbours.look_again("nersc")),
    ]

    assert believed == []


@pytest.fixture
async def rude_pair(urls, tmp_path):
    """chajnantor sends to nersc, and what is rude stands between."""
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "nersc") as receiver,
        rude_peer(receiver.live.url) as rude,
    ):
        await acquaint(sender, receiver, url=rude.url)
        yield sender, receiver, rude


async def test_nonsense_at_every_turn_loses_nothing(rude_pair):
    sender, receiver, rude = rude_pair
    for path in ("/site", "/clones", "/clones/content/state", "/clones/content", "/clones/notices"):
        rude.says(path, b"<html>Welcome</html>")

    await sender.upload({"one": b"one", "two": b"two"})
    await sender.replicates_to(receiver)

    await sender.knows_copies_at(receiver, ["one", "two"])
    assert rude.has_said_all
    assert len(await receiver.incoming()) == 2


async def test_a_token_and_a_store_that_the_peer_made_up_lead_nowhere(rude_pair):
    sender, receiver, rude = rude_pair

    def accept(body: bytes) -> bytes:
        return json.dumps(
            {
                "verdicts": [
                    {"verdict": "accepted", "uuid": each["uuid"], "token": Token.mint(), "store": store}
                    for each, store in zip(json.loads(body)["clones"], ["fast", "no-such-store"], strict=True)
                ]
            }
        ).encode()

    rude.says("/clones", accept)
    await sender.upload({"one": b"one", "two": b"two"})
    await sender.replicates_to(receiver)

    await sender.knows_copies_at(receiver, ["one", "two"])
    assert rude.has_said_all
    # On a slow machine the two sites may disagree about a transfer first; then it is another that brings the file.
    brought = {transfer.name for transfer in await sender.outgoing() if transfer.state is TransferState.COMPLETED}
    assert brought == {"one", "two"}


async def test_a_peer_that_lies_about_what_it_holds_is_asked_again(rude_pair):
    sender, receiver, rude = rude_pair

    def hold(body: bytes) -> bytes:
        (clone,) = json.loads(body)["clones"]
        given = {key: clone[key] for key in ("uuid", "size", "checksum")}
        return json.dumps({"verdicts": [{"verdict": "held", **given}]}).encode()

    rude.says("/clones", hold)
    await sender.upload({"one": b"one"})
    await sender.replicates_to(receiver)

    await sender.knows_copies_at(receiver, ["one"])
    assert rude.has_said_all


async def test_absurd_sizes_of_what_has_arrived_stop_nothing(rude_pair):
    sender, receiver, rude = rude_pair

    def exaggerate(body: bytes) -> bytes:
        members = [{"path": str(number), "size": 2**63 - 1} for number in range(9)]
        contents = [{"token": token, "members": members} for token in json.loads(body)["tokens"]]
        return json.dumps({"contents": contents}).encode()

    rude.says("/clones/content/state", exaggerate)
    # Small files are sent without that question.
    await sender.upload({"one": b"one" * 30_000})
    await sender.replicates_to(receiver)

    await sender.knows_copies_at(receiver, ["one"])
    assert rude.has_said_all


async def test_a_refusal_of_any_length_is_kept_short(rude_pair):
    sender, receiver, rude = rude_pair

    def refuse(body: bytes) -> bytes:
        words = {"verdict": "refused", "code": "x" * 100_000, "reason": "ü" * 1_000_000}
        return json.dumps(
            {"verdicts": [{"uuid": each["uuid"], **words} for each in json.loads(body)["clones"]]}
        ).encode()

    rude.says("/clones", *[refuse] * 2)
    await sender.upload({"one": b"one"})
    await sender.replicates_to(receiver)

    async def is_refused() -> bool:
        return any(due.code and due.code.startswith("xxx") for due in await sender.dues(["one"]))

    await until(is_refused)
    (due,) = await sender.dues(["one"])
    await sender.knows_copies_at(receiver, ["one"])
    assert due.state is DueState.DUE
    assert len(due.reason) <= 2000


async def test_a_peer_that_claims_again_to_have_heard_more_than_we_said_is_let_alone(asking):
    site, rude = asking
    async with site.catalog.begin() as tx:
        peer = await tx.peers.get("nersc")
        await tx.outbox.put([note(peer.id, "one", "gone", Assertion(name=FileName("one"), size=3, checksum=None))])

    def claim_more(body: bytes) -> bytes:
        said = json.loads(body)
        applied = [{"seq": notice["seq"], "answer": "applied"} for notice in said["notices"]]
        return json.dumps({"answers": applied, "seen_epoch": said["epoch"] + 1, "seen_seq": 1}).encode()

    rude.says("/clones/notices", *[claim_more] * 2)
    await Deliver(site).run_pass(plenty_of_time())

    assert rude.has_said_all
    assert site.neighbours.is_resting(SiteName("nersc"), "deliver")
    assert "claims again" in (site.neighbours.trouble_of(SiteName("nersc")) or "")


async def test_a_peer_that_talks_nonsense_holds_up_no_other(urls, tmp_path):
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "princeton") as mad,
        party(urls[2], tmp_path / "c", "nersc") as sane,
        rude_peer(mad.live.url) as rude,
    ):
        await acquaint(sender, mad, url=rude.url)
        await acquaint(sender, sane)
        rude.says("/clones", *[b'{"verdicts": [{"verdict": "refused", "uuid": 5}]}'] * 1000)
        await sender.replicates_to(mad)
        await sender.replicates_to(sane)

        await sender.upload({"one": b"one"})
        await sender.knows_copies_at(sane, ["one"])
        await sender.upload({"two": b"two"})
        await sender.knows_copies_at(sane, ["two"])

        async def is_told() -> bool:
            reply = await sender.live.call("GET", "/api/v1/peers/princeton")
            return "did not answer as a librarian does" in (reply.json["trouble"] or "")

        await until(is_told)
