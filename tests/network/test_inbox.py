"""Sites without inbound ports: what others have to say waits for them, and only their answers count."""

import asyncio
import json
from datetime import timedelta

import pytest

from librarian import hearing
from librarian.mailboxes import Mailbox
from librarian.names import SiteName
from librarian.states import Reach, Role
from librarian.tasks.fetch import Fetch
from librarian.tasks.supervisor import Supervisor
from librarian.wire.clones import AskStates
from librarian.wire.inbox import STATES, InboxItem
from tests.clone_fixtures import POLICY, acquaint, close_in, party, until
from tests.site_fixtures import create_account

NAMES = [f"2026/run-{number}" for number in range(3)]


@pytest.fixture
async def one_way(urls, tmp_path):
    """chajnantor and nersc may send to each other; chajnantor cannot call nersc."""
    async with (
        party(urls[0], tmp_path / "chajnantor", "chajnantor") as open_one,
        party(urls[1], tmp_path / "nersc", "nersc") as closed,
    ):
        await acquaint(open_one, closed, both=True)
        await close_in(closed, towards=open_one)
        yield open_one, closed


@pytest.fixture
async def host(urls, tmp_path):
    """chajnantor, which can call neither nersc nor princeton. No task runs."""
    async with party(urls[0], tmp_path / "chajnantor", "chajnantor", tasks=False) as opened:
        for name in ("nersc", "princeton"):
            await create_account(opened.site, name, Role.CALLBACK)
            async with opened.site.catalog.begin() as tx:
                await tx.peers.add(
                    SiteName(name),
                    url="http://localhost:9",
                    username="chajnantor",
                    secret=b"",
                    reach=Reach.POLL,
                    accepts=[""],
                    entry_points=[],
                )
        yield opened


def ask(host, peer="nersc"):
    """Ask *peer* how a transfer stands, in a task of its own."""
    return asyncio.create_task(host.site.neighbours.states(SiteName(peer), AskStates(taken=[])))


async def read(host, *, user="nersc", after=0, wait=20):
    reply = await host.live.call("GET", f"/api/v1/clones/inbox?after={after}&wait={wait}", user=user)
    assert reply.status == 200, reply.raw
    return reply.json["items"]


async def answer(host, *answers, user="nersc"):
    reply = await host.live.call("POST", "/api/v1/clones/inbox/answers", user=user, body={"answers": answers})
    assert reply.status == 200, reply.raw
    return reply.json["taken"]


async def test_files_reach_a_site_that_cannot_be_called_over_a_shared_file_system(one_way):
    open_one, closed = one_way
    await open_one.replicates_to(closed, engines=("local",))

    await open_one.upload({name: name.encode() for name in NAMES})

    await open_one.knows_copies_at(closed, NAMES)
    assert (closed.folder / "fast" / NAMES[0]).read_bytes() == NAMES[0].encode()


async def test_a_site_that_cannot_be_called_sends_by_calling(one_way):
    open_one, closed = one_way
    await closed.replicates_to(open_one, engines=("http",))

    await closed.upload({name: name.encode() for name in NAMES})

    await closed.knows_copies_at(open_one, NAMES)


async def test_http_does_not_reach_a_site_that_cannot_be_called_and_says_so(one_way):
    open_one, closed = one_way
    await open_one.replicates_to(closed, engines=("http",))
    await open_one.upload({NAMES[0]: b"x"})

    async def is_told():
        return [due for due in await open_one.dues(NAMES[:1]) if due.code == "no_engine"]

    await until(is_told)

    assert "http: nersc cannot be called from here" in (await open_one.dues(NAMES[:1]))[0].reason
    assert [alert.cause for alert in await open_one.alerts()] == ["peer:nersc:no-engine"]


async def test_what_was_due_while_nobody_fetched_is_sent_once_somebody_does(urls, tmp_path):
    async with (
        party(urls[0], tmp_path / "chajnantor", "chajnantor") as open_one,
        party(urls[1], tmp_path / "nersc", "nersc", tasks=False) as closed,
    ):
        await acquaint(open_one, closed)
        await close_in(closed, towards=open_one)
        await open_one.replicates_to(closed, engines=("local",))
        await open_one.upload({NAMES[0]: b"x"})
        waiting = await read(open_one, user="nersc", wait=20)

        async with Supervisor(closed.site, [Fetch(closed.site, POLICY)]):

            async def is_accepted():
                return [clone for clone in await closed.incoming() if clone.name == NAMES[0]]

            await until(is_accepted)

        assert waiting


async def test_what_is_not_answered_is_there_again_in_order(host):
    first, second = ask(host), ask(host)

    async def both_wait():
        items = await read(host, wait=0)
        return items if len(items) == 2 else None

    await until(both_wait)
    items = await read(host)
    again = await read(host, wait=0)
    later = await read(host, after=items[0]["seq"], wait=0)

    assert [item["topic"] for item in items] == ["states", "states"]
    assert items[0]["seq"] < items[1]["seq"]
    assert again == items
    assert later == items[1:]
    first.cancel()
    second.cancel()


async def test_an_answer_is_taken_once_and_ends_the_wait(host):
    asked = ask(host)
    (item,) = await read(host)
    reply = {"seq": item["seq"], "body": {"offered": [], "taken": [], "of a newer release": True}}

    taken = [await answer(host, reply), await answer(host, reply)]

    assert taken == [[item["seq"]], []]
    assert (await asked).taken == []
    assert await read(host, wait=0) == []


async def test_a_peer_reads_and_answers_its_own_inbox_alone(host):
    asked = ask(host)
    (item,) = await read(host)

    assert await read(host, user="princeton", wait=0) == []
    assert await answer(host, {"seq": item["seq"], "body": {"offered": [], "taken": []}}, user="princeton") == []
    assert not asked.done()
    asked.cancel()


async def test_a_refusal_and_a_senseless_answer_are_told_as_those_of_a_call_are(host):
    refused = ask(host)
    (item,) = await read(host)
    await answer(host, {"seq": item["seq"], "problem": {"code": "forbidden", "message": "the peer is disabled"}})
    senseless = ask(host)
    (other,) = await read(host)
    await answer(host, {"seq": other["seq"], "body": {"offered": 7}})

    with pytest.raises(Exception, match="the peer is disabled") as refusal:
        await refused
    with pytest.raises(Exception, match="did not answer as a librarian does") as nonsense:
        await senseless

    assert (refusal.value.code, nonsense.value.code) == ("forbidden", "peer_unavailable")


async def test_a_stranger_and_a_disabled_peer_find_no_inbox(host):
    await create_account(host.site, "berkeley", Role.CALLBACK)
    async with host.site.catalog.begin() as tx:
        await tx.peers.enable((await tx.peers.get("princeton")).id, is_enabled=False)

    replies = [
        await host.live.call("GET", "/api/v1/clones/inbox", user="berkeley"),
        await host.live.call("GET", "/api/v1/clones/inbox", user="princeton"),
    ]

    assert [reply.status for reply in replies] == [403, 403]


async def test_a_letter_that_nobody_fetches_is_taken_back(monkeypatch):
    monkeypatch.setattr("librarian.mailboxes.UNFETCHED", timedelta(milliseconds=20))
    mailbox = Mailbox(SiteName("nersc"))

    with pytest.raises(Exception, match="nersc has not fetched") as refusal:
        await mailbox.ask(STATES.name, AskStates())

    assert refusal.value.code == "peer_unavailable"
    assert await mailbox.read(after=0, wait=timedelta(0)) == []


@pytest.mark.parametrize(
    ("topic", "body", "code", "words"),
    [
        ("weather", {}, "bad_request", "knows no topic 'weather'"),
        ("states", {"offered": "all"}, "bad_request", "the states cannot be read"),
        ("offer", {"clones": []}, "forbidden", "lacks the role"),
    ],
)
async def test_what_a_fetched_item_may_not_say_is_refused_in_its_answer(host, topic, body, code, words):
    async with host.site.catalog.read() as tx:
        account = await tx.accounts.get("nersc")

    found = await hearing.answer_item(host.site, account, InboxItem(seq=1, topic=topic, body=body))

    assert found.problem.code == code
    assert words in found.problem.message
    assert json.loads(found.model_dump_json())["seq"] == 1
