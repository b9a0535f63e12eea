"""How a file stands, told in sentences: a table of facts and what is said of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from librarian.catalog.outbox import Untold
from librarian.catalog.records import (
    Batch,
    CopyDueRecord,
    File,
    Incoming,
    InstanceRecord,
    Outgoing,
    Peer,
    RemoteInstanceRecord,
    Rule,
)
from librarian.catalog.standing import Standing
from librarian.checksum import Checksum
from librarian.names import FileName, Token
from librarian.policies import RulePolicy
from librarian.reasons import Trouble, reasons
from librarian.states import (
    Arrival,
    BatchState,
    DueState,
    Flow,
    Intent,
    Kind,
    Presence,
    Reach,
    RuleWay,
    TransferState,
    VerifiedFrom,
)

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
AGO = NOW - timedelta(hours=1)
SUM = Checksum("xxh3:" + "0" * 32)
NAME = FileName("2026/one")
FILE = File(id=1, name=NAME, kind=Kind.FILE, size=10, checksum=SUM, uploader="ana", origin="chajnantor", created_at=AGO)
PEER = Peer(
    id=1,
    name="nersc",
    url="https://nersc.example",
    username="chajnantor",
    reach=Reach.PUSH,
    is_fetched=False,
    is_enabled=True,
    accepts=("",),
    entry_points=(),
    held_because=None,
    flow=Flow.OPEN,
    rate_limit=None,
    windows=(),
    staged_budget=None,
    seen_epoch=0,
    seen_seq=0,
    sent_seq=0,
    last_heard_at=AGO,
    created_at=AGO,
)
DUE = CopyDueRecord(
    file_id=1,
    rule="all",
    way=RuleWay.NETWORK,
    peer="nersc",
    store=None,
    state=DueState.DUE,
    attempts=0,
    failures=0,
    next_try_at=AGO,
    code=None,
    reason=None,
    created_at=AGO,
    since=AGO,
)
BATCH = Batch(
    silent_since=None,
    id=7,
    peer_id=1,
    engine="http",
    store="fast",
    key="k",
    handle="h",
    state=BatchState.ACTIVE,
    files=1024,
    bytes=1000,
    bytes_done=400,
    attempts=0,
    reason=None,
    created_at=AGO,
    progressed_at=AGO + timedelta(seconds=40),
)
LEAVING = Outgoing(
    id=1,
    uuid="u",
    peer_id=1,
    file_id=1,
    name=NAME,
    kind=Kind.FILE,
    size=10,
    checksum=SUM,
    batch_id=7,
    manifest_id=None,
    token=Token("a" * 32),
    store="fast",
    state=TransferState.ONGOING,
    code=None,
    reason=None,
    created_at=AGO,
    progressed_at=AGO,
)
ARRIVING = Incoming(
    id=1,
    uuid="u",
    arrival=Arrival.UPLOAD,
    peer_id=None,
    account="ana",
    name=NAME,
    kind=Kind.FILE,
    size=10,
    checksum=SUM,
    uploader="ana",
    origin="chajnantor",
    file_created_at=None,
    store="fast",
    store_id=1,
    token=Token("a" * 32),
    state=TransferState.INITIATED,
    code=None,
    reason=None,
    has_staging=True,
    attempts=0,
    created_at=AGO,
    progressed_at=AGO,
)
COPY = InstanceRecord(
    file_id=1,
    store="fast",
    presence=Presence.PRESENT,
    intent=Intent.KEEP,
    verified_at=AGO,
    verified_from=VerifiedFrom.CACHE,
)
NOTE = Untold(
    id=1, peer="nersc", subject="u", state="staged", body="{}", attempts=0, set_aside_because=None, created_at=AGO
)
RULE = Rule(
    id=1,
    name="all",
    version=1,
    way=RuleWay.NETWORK,
    peer_id=1,
    policy=RulePolicy(peer="nersc").model_dump_json(),
    is_from_settings=False,
    is_enabled=True,
    backfill_after=0,
    backfill_until=9,
    created_at=AGO,
)
HELD = Standing(name=NAME, file=FILE, peers=(PEER,), batches={7: BATCH}, under_way={1: 0})
ABSENT = Standing(name=NAME, file=None, peers=(PEER,), batches={}, under_way={})
AWAY = Trouble(why="connection refused", since=AGO)


def said(standing, troubles=None) -> str:
    told = reasons(standing, troubles=troubles or {}, most_batches=4, now=NOW)
    return "\n".join(reason.sentence for reason in told)


def due(state=DueState.DUE, *, peer=PEER, leaving=(), batch=BATCH, untold=(), under_way=0, **changes) -> Standing:
    return replace(
        HELD,
        dues=(replace(DUE, state=state, **changes),),
        peers=(peer,),
        leaving=leaving,
        batches={7: batch},
        untold=untold,
        under_way={1: under_way},
    )


def peer(**changes) -> Peer:
    return replace(PEER, **changes)


MOVING = "batch 7 of the http engine (1,024 files, 1,000 bytes)"
CLOSED = "none of its windows is open: 20:00-22:00 UTC, until 2026-11-25 20:00:00 UTC"
START = "The copy at nersc that the rule all asks for "
HOUR = "2026-11-25 11:00:00 UTC"

NIGHTLY = replace(RULE, policy=RulePolicy(peer="nersc", windows=("20:00-22:00 UTC",)).model_dump_json())

WAITING = {
    "in turn": (due(), f"waits since {HOUR}: it is offered as soon as its turn comes."),
    "disabled": (due(peer=peer(is_enabled=False)), f"waits since {HOUR}: nothing new goes to nersc, it is disabled."),
    "held": (due(peer=peer(held_because="new ways")), f"waits since {HOUR}: nothing new goes to nersc, new ways."),
    "paused": (due(peer=peer(flow=Flow.PAUSED)), f"waits since {HOUR}: nothing new goes to nersc, it is paused."),
    "window": (
        due(peer=peer(windows=("20:00-22:00 UTC",))),
        f"waits since {HOUR}: nothing new goes to nersc, {CLOSED}.",
    ),
    "the rule's own window": (
        replace(due(), rules=(NIGHTLY,)),
        f"waits since {HOUR}: none of the rule's own windows is open: 20:00-22:00 UTC.",
    ),
    "young": (
        due(next_try_at=NOW + timedelta(hours=1)),
        "waits until 2026-11-25 13:00:00 UTC: the file is younger than the rule asks.",
    ),
    "failed": (
        due(next_try_at=NOW + timedelta(minutes=1), attempts=2, code="busy", reason="another arrives"),
        "is tried again at 2026-11-25 12:01:00 UTC, after 2 tries: another arrives.",
    ),
    "queue": (
        due(under_way=4),
        f"waits since {HOUR}: 4 batches are on their way to nersc, and no more go at once.",
    ),
    "blocked": (
        due(DueState.BLOCKED),
        f"cannot be made since {HOUR}: no healthy copy of it is here; it goes on when one is.",
    ),
    "quarantined": (
        due(DueState.QUARANTINED, attempts=6, reason="other bytes came"),
        f"is in quarantine since {HOUR}, after 6 tries: other bytes came; 'transfer retry' takes it up again.",
    ),
    "offered": (due(DueState.SENDING), f"is being offered to nersc since {HOUR}."),
    "moving": (
        due(DueState.SENDING, leaving=(LEAVING,)),
        f"moves in {MOVING}, 40 % done at 10 bytes/s, with progress last 59 min ago.",
    ),
    "paused in the middle": (
        due(DueState.SENDING, leaving=(LEAVING,), peer=peer(flow=Flow.PAUSED)),
        "waits in batch 7: nothing moves to nersc, it is paused.",
    ),
    "queued": (
        due(DueState.SENDING, leaving=(LEAVING,), batch=replace(BATCH, state=BatchState.QUEUED, reason="no key")),
        f"is in {MOVING}, which is yet to start: no key.",
    ),
    "held batch": (
        due(DueState.SENDING, leaving=(LEAVING,), batch=replace(BATCH, state=BatchState.HELD, reason="no consent")),
        f"is in {MOVING}, which is held: no consent.",
    ),
    "said to be held": (
        due(DueState.AWAITING, code="held"),
        "is held at nersc, as it said 60 min ago; its notice has not come yet.",
    ),
    "untold": (
        due(DueState.AWAITING, leaving=(LEAVING,), untold=(NOTE,)),
        "was delivered 60 min ago, and nersc has not been told yet.",
    ),
    "unfetched": (
        due(DueState.AWAITING, leaving=(LEAVING,), untold=(NOTE,), peer=peer(reach=Reach.POLL)),
        "was delivered 60 min ago, and nersc has not fetched that yet.",
    ),
    "refuses to hear": (
        due(DueState.AWAITING, leaving=(LEAVING,), untold=(replace(NOTE, set_aside_because="not_found: what?"),)),
        "was delivered, but nersc refuses to hear of it: not_found: what?.",
    ),
    "verifying": (
        due(DueState.AWAITING, leaving=(LEAVING,)),
        "was delivered 60 min ago, and waits until nersc has verified it.",
    ),
}


@pytest.mark.parametrize(("standing", "told"), WAITING.values(), ids=WAITING)
def test_what_a_due_copy_waits_for_is_told(standing, told):
    assert said(standing) == START + told


def test_that_a_peer_does_not_answer_is_told_with_its_reason_and_since_when():
    assert said(due(), {"nersc": AWAY}) == (
        f"{START}waits since {HOUR}: nersc does not answer since {HOUR}, and was heard of last 60 min ago: "
        "connection refused."
    )


ELSE = {
    "nothing": (ABSENT, "Nothing of that name is here, on its way here, or known to have been."),
    "a copy": (replace(HELD, instances=(COPY,)), "A good copy is on fast, verified 60 min ago."),
    "a bad copy": (
        replace(HELD, instances=(replace(COPY, presence=Presence.CORRUPT),)),
        "The copy on fast is corrupt, and no source of others; last found good 60 min ago.",
    ),
    "a remote copy": (
        replace(HELD, remote_instances=(RemoteInstanceRecord(file_id=1, peer="nersc", store="deep", attested_at=AGO),)),
        "nersc holds it on deep, as it said 60 min ago.",
    ),
    "an upload": (
        replace(ABSENT, arrival=ARRIVING),
        f"The upload of ana (10 bytes) is under way to fast since {HOUR}; bytes came last 60 min ago.",
    ),
    "a clone": (
        replace(ABSENT, arrival=replace(ARRIVING, arrival=Arrival.CLONE, peer_id=1)),
        f"The clone from nersc (10 bytes) is under way to fast since {HOUR}; bytes came last 60 min ago.",
    ),
    "staged": (
        replace(ABSENT, arrival=replace(ARRIVING, state=TransferState.STAGED, reason="no room")),
        f"The upload of ana (10 bytes) has come whole to fast, and waits to be verified since {HOUR}: no room.",
    ),
    "ingesting": (
        replace(ABSENT, arrival=replace(ARRIVING, state=TransferState.INGESTING)),
        "The upload of ana (10 bytes) is being verified on fast.",
    ),
    "refused": (
        replace(ABSENT, arrival=replace(ARRIVING, state=TransferState.FAILED, reason="other bytes came")),
        "The upload of ana (10 bytes) was refused 60 min ago: other bytes came.",
    ),
    "cancelled": (
        replace(ABSENT, arrival=replace(ARRIVING, state=TransferState.CANCELLED)),
        "The upload of ana (10 bytes) was cancelled 60 min ago.",
    ),
    "a walk": (
        replace(HELD, walking=(RULE,)),
        "The rule all asks for a copy at nersc; its walk has not come to this file yet.",
    ),
}


@pytest.mark.parametrize(("standing", "told"), ELSE.values(), ids=ELSE)
def test_where_a_file_is_and_how_it_arrives_is_told(standing, told):
    assert said(standing) == told


def test_a_refusal_of_long_ago_is_not_told_of_a_file_that_is_here():
    failed = replace(ARRIVING, state=TransferState.FAILED, reason="other bytes came")

    assert said(replace(HELD, instances=(COPY,), arrival=failed)) == "A good copy is on fast, verified 60 min ago."


CARRIED = {"way": RuleWay.CARRIED, "rule": "post"}
ROOM = f"waits since {HOUR}: it is copied as soon as a"


def here(state=DueState.DUE, **changes) -> Standing:
    owed = replace(DUE, way=RuleWay.LOCAL, rule="second", peer=None, state=state, **changes)
    return replace(HELD, dues=(owed,))


LOADING = {
    "for a drive": (
        due(**CARRIED),
        f"waits since {HOUR}: it is copied as soon as a drive of the rule has room for it.",
    ),
    "loaded": (
        due(DueState.LOADED, reason="on A07", **CARRIED),
        f"rests on A07 since {HOUR}, until nersc says that it holds it.",
    ),
    "not wanted from a drive": (
        due(DueState.QUARANTINED, attempts=1, reason="it holds other content", **CARRIED),
        (
            f"is in quarantine since {HOUR}, after one try: it holds other content; 'transfer retry' takes it up "
            "again, and goes onto no drive until then."
        ),
    ),
    "for a store": (here(), f"{ROOM} store of the rule has room for it."),
    "for one store": (here(store="slow"), "The copy on slow that the rule second asks for waits since"),
    "out of hours": (
        replace(here(), rules=(replace(NIGHTLY, name="second", way=RuleWay.LOCAL),)),
        f"waits since {HOUR}: none of the rule's own windows is open: 20:00-22:00 UTC.",
    ),
    "under way": (here(DueState.SENDING), f"is being copied, or read back, since {HOUR}."),
    "no source": (here(DueState.BLOCKED), "no healthy copy of it is here; it goes on when one is."),
    "failed": (
        here(next_try_at=NOW + timedelta(minutes=1), attempts=1, code="no_room", reason="it is full"),
        "is tried again at 2026-11-25 12:01:00 UTC, after one try: it is full.",
    ),
}


@pytest.mark.parametrize(("standing", "sentence"), LOADING.values(), ids=LOADING)
def test_a_copy_onto_a_store_or_drive_of_ours_says_what_it_waits_for(standing, sentence):
    assert sentence in said(standing)
