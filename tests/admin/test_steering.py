"""What became of transfers, as operators see and steer it: stopped copies, reasons, alerts, refused notices."""

import asyncio
import json

import pytest

from librarian import outcomes, replication
from librarian.catalog.copies_due import NewDue
from librarian.catalog.files import NewFile
from librarian.catalog.outgoing import NewOutgoing
from librarian.checksum import Checksum
from librarian.names import FileName, RuleName, SiteName
from librarian.policies import RulePolicy
from librarian.replication import Assertion, note
from librarian.settings import load_settings
from librarian.site import open_site
from librarian.states import Kind, Reach
from librarian.timing import utc_now

UUID = "0b0e7a3e-7c6e-4f1e-9d56-6b1d9a6d1f00"
UNKNOWN = "00000000-7c6e-4f1e-9d56-6b1d9a6d1f00"


async def _seed(config) -> None:
    async with open_site(load_settings(config)) as site, site.catalog.begin() as tx:
        peer = await tx.peers.add(
            SiteName("nersc"),
            url="http://127.0.0.1:1",
            username="chajnantor",
            secret=site.neighbours.secrets.encrypt("secret"),
            reach=Reach.PUSH,
            accepts=[""],
            entry_points=[],
        )
        await replication.put_rule(tx, RuleName("all"), policy=RulePolicy(peer="nersc"), who="admin")
        new = NewFile(
            name=FileName("one"),
            kind=Kind.FILE,
            size=10,
            checksum=Checksum("xxh3:" + "0" * 32),
            uploader="ana",
            origin="chajnantor",
            created_at=utc_now(),
        )
        (file,) = (await tx.files.add([new])).values()
        rule = await tx.rules.find("all")
        due = NewDue(file_id=file, rule_id=rule.id, way=rule.way, peer_id=peer.id, size=10, not_before=utc_now())
        await tx.copies_due.owe([due])
        await tx.outgoing.open(peer.id, [NewOutgoing(uuid=UUID, file_id=file, size=10)])
        failed = outcomes.Failed(file_id=file, name=new.name, code="bad", reason="other bytes came", is_own=True)
        await outcomes.record_failures(tx, peer, [failed], most=1)
        assertion = Assertion(name=new.name, size=10, checksum=new.checksum)
        await tx.outbox.put([note(peer.id, "one", "held", assertion), note(peer.id, "one", "gone", assertion)])
        waiting = await tx.outbox.waiting(peer.id, now=utc_now(), limit=10)
        await tx.outbox.set_aside([(waiting[0].id, "not_found: there is no such file between us")])
        await tx.alerts.raise_alert(outcomes.refusing_cause(peer), message="It refuses one.", remedy="")


@pytest.fixture
def site(new_config, admin):
    """Run a command for a site with one copy in quarantine, and one notice that its peer refuses."""
    config = new_config()
    asyncio.run(_seed(config))

    def run(*arguments):
        return admin("--config", config, *arguments)

    return run


def listed(outcome):
    return [json.loads(line) for line in outcome.out.splitlines()]


def alerts_at(site):
    return sorted(alert["cause"] for alert in listed(site("alert", "list", "--json")))


def test_a_copy_in_quarantine_is_listed_with_its_reason_and_goes_on_after_a_retry(site):
    (stopped,) = listed(site("transfer", "stopped", "--peer", "nersc", "--json"))

    tried = site("transfer", "retry", "one", "--dry-run")
    still = listed(site("transfer", "stopped", "--json"))
    retried = site("transfer", "retry", "--peer", "nersc", "--json")

    assert (stopped["name"], stopped["state"], stopped["reason"]) == ("one", "quarantined", "other bytes came")
    assert (tried.out, len(still)) == ("1 copy would go on.\n", 1)
    assert json.loads(retried.out) == {"copies": 1, "is_dry_run": False}
    assert site("transfer", "stopped").out == ""
    assert alerts_at(site) == ["peer:nersc:refuses-notices"]


def test_why_tells_what_a_copy_waits_for_and_that_an_unknown_file_is_unknown(site):
    held = site("why", "one")
    unknown = site("why", "two", "--json")

    assert "after one try: other bytes came; 'transfer retry' takes it up again" in held.out
    assert [each["state"] for each in json.loads(unknown.out)["copies"]] == ["unknown"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("transfer", "retry"), "nothing says which copies"),
        (("transfer", "retry", "two"), "no file is called 'two'"),
        (("transfer", "retry", "--peer", "berkeley"), "no peer is called 'berkeley'"),
        (("transfer", "cancel", "x"), "uuids"),
        (("notice", "drop"), "nothing says which notices"),
        (("notice", "retry", "999"), "not all of these notices are set aside"),
        (("alert", "acknowledge"), "either 'causes' or 'all'"),
        (("alert", "acknowledge", "x"), "there is no alert 'x'"),
    ],
)
def test_what_cannot_be_steered_is_refused_with_the_reason(site, arguments, words):
    refused = site(*arguments)

    assert refused.code == 2
    assert words in refused.err


def test_ended_and_unknown_transfers_cannot_be_cancelled(site):
    refused = site("transfer", "cancel", UUID, UNKNOWN, "--json")

    assert refused.code == 2
    assert [each["problem"]["code"] for each in listed(refused)] == ["wrong_state", "not_found"]
    assert site("transfer", "cancel", UNKNOWN).err == "See 'transfer list' for the ids.\n"


def test_an_alert_is_listed_until_somebody_has_acknowledged_it(site):
    before = alerts_at(site)
    one = site("alert", "list", "--limit", "1")

    told = site("alert", "acknowledge", "peer:nersc:quarantine")

    assert (one.out.count("\n"), one.err) == (1, "There are more than 1; see --limit.\n")
    assert before == ["peer:nersc:quarantine", "peer:nersc:refuses-notices"]
    assert told.out == "Acknowledged: 1.\n"
    assert alerts_at(site) == before[1:]
    everything = {each["cause"]: each for each in listed(site("alert", "list", "--all", "--json"))}
    assert everything["peer:nersc:quarantine"]["acknowledged_at"] is not None


def test_every_alert_can_be_acknowledged_at_once(site):
    assert site("alert", "acknowledge", "--all").out == "Acknowledged: 2.\n"


@pytest.mark.parametrize(
    ("verb", "told", "alerts"),
    [
        ("retry", "1 notice is said again.\n", ["peer:nersc:quarantine", "peer:nersc:refuses-notices"]),
        ("drop", "1 notice was dropped.\n", ["peer:nersc:quarantine"]),
    ],
)
def test_a_notice_that_a_peer_refuses_is_listed_until_it_is_steered(site, verb, told, alerts):
    (refused,) = listed(site("notice", "list", "--json"))

    tried = site("notice", verb, refused["id"], "--dry-run", "--json")
    steered = site("notice", verb, refused["id"])

    assert (refused["state"], refused["name"], refused["peer"]) == ("held", "one", "nersc")
    assert "not_found" in refused["reason"]
    assert json.loads(tried.out) == {"notices": 1, "is_dry_run": True}
    assert steered.out == told
    assert site("notice", "list").out == ""
    assert alerts_at(site) == alerts
