"""What the codes of Globus' events mean to us."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librarian.names import SiteName, StoreName, Token
from librarian.states import Kind
from librarian.timing import utc_now
from librarian.transfers.base import Item, Job
from librarian.transfers.globus_documents import Event, Skipped, TaskNote
from librarian.transfers.globus_hauls import Haul, order_of
from librarian.transfers.globus_places import Collection, Load, Places
from librarian.transfers.globus_troubles import Trouble, trouble_of


def event(code: str, path: str = "") -> Event:
    details = json.dumps({"context": [{"operation": "transfer", "path": path}]})
    return Event(code=code, description=code.lower(), details=details)


def a_load(name: str) -> Load:
    token = Token.mint()
    item = Item(uuid=name, token=token, source=Path("/data/store", name), kind=Kind.FILE, size=1)
    return Load(item=item, source=f"/store/{name}", destination=f"/staging/{token}/payload")


def a_haul(*loads: Load) -> Haul:
    return Haul(label="a:b", source="s", destination="d", loads=list(loads), submission_id=None)


@pytest.mark.parametrize(
    ("trouble", "codes"),
    [
        (Trouble.PASSING, ["CONNECT_FAILED", "CONNECTION_RESET", "TIMEOUT", "ENDPOINT_ERROR", "VERIFY_CHECKSUM"]),
        (Trouble.FULL, ["QUOTA_EXCEEDED", "NO_SPACE_LEFT"]),
        (Trouble.ACCESS, ["AUTH", "NO_CREDENTIALS", "GSI_DN_MISMATCH", "PAUSED"]),
        (Trouble.ITEM, ["FILE_NOT_FOUND", "PERMISSION_DENIED", "INVALID_PATH_NAME", "IS_A_DIRECTORY"]),
        (Trouble.INTEGRITY, ["FILE_SIZE_CHANGED", "EXTERNAL_CHECKSUM_MISMATCH"]),
    ],
)
def test_every_code_has_its_kind(trouble, codes):
    assert {trouble_of(code) for code in codes} == {trouble}


def test_a_code_that_nobody_knows_is_passing_trouble():
    assert trouble_of("SOMETHING_NEW") is Trouble.PASSING


def test_of_several_events_the_one_that_asks_most_of_us_counts():
    events = [event("TIMEOUT"), event("NO_SPACE_LEFT"), event("AUTH")]

    trouble, worst = a_haul().worst_of(events)

    assert (trouble, worst.code) == (Trouble.FULL, "NO_SPACE_LEFT")


def test_no_events_are_no_trouble():
    assert a_haul().worst_of([]) is None


def test_an_event_about_a_destination_condemns_the_item_with_that_token():
    one, two = a_load("one"), a_load("two")
    haul = a_haul(one, two)

    has_condemned = haul.condemn([event("INVALID_PATH_NAME", two.destination)])

    assert (has_condemned, set(haul.failed)) == (True, {"two"})
    assert "at the receiver" in haul.failed["two"]


def test_a_receiver_that_lets_nobody_write_is_no_fault_of_an_item():
    one = a_load("one")
    haul = a_haul(one)
    denied = event("PERMISSION_DENIED", one.destination)

    has_condemned = haul.condemn([denied])

    assert (has_condemned, haul.failed) == (False, {})
    assert haul.worst_of([denied]) == (Trouble.ACCESS, denied)


def test_what_was_left_out_fails_the_item_that_it_is_part_of():
    haul = a_haul(a_load("one"), a_load("one-more"), a_load("two"))
    skipped = [Skipped(source_path=path, code="FILE_NOT_FOUND") for path in ("/store/one/deep/x", "/store/two")]

    haul.leave_out([*skipped, Skipped(source_path="/elsewhere/one", code="FILE_NOT_FOUND")])

    assert set(haul.failed) == {"one", "two"}


def test_an_event_about_a_member_of_a_source_condemns_that_item_alone():
    haul = a_haul(a_load("one"), a_load("one-more"), a_load("one more"))

    haul.condemn([event("FILE_ACCESS", "/store/one/member")])

    assert set(haul.failed) == {"one"}
    assert "at the sender" in haul.failed["one"]


@pytest.mark.parametrize("code", ["FILE_NOT_FOUND", "PERMISSION_DENIED", "AMBIGUOUS_PATH"])
def test_what_globus_leaves_out_at_a_source_condemns_nothing(code):
    haul = a_haul(a_load("one"))

    assert not haul.condemn([event(code, "/store/one")])


@pytest.mark.parametrize("code", ["TIMEOUT", "NO_SPACE_LEFT", "AUTH", "SOMETHING_NEW"])
def test_trouble_of_other_kinds_condemns_nothing(code):
    haul = a_haul(a_load("one"))

    assert not haul.condemn([event(code, "/store/one")])


def test_a_source_that_changed_is_suspect():
    haul = a_haul(a_load("one"), a_load("two"))

    haul.condemn([event("FILE_SIZE_CHANGED", "/store/two")])

    assert haul.suspects == {"two"}


def test_time_that_a_person_took_is_no_silence():
    haul = a_haul()
    haul.silent_since -= timedelta(hours=1)

    haul.wait_for_a_person("it is paused", "Ask.")

    assert (haul.is_held, haul.is_silent(timedelta(minutes=30))) == (True, False)


@pytest.mark.parametrize(("moved", "has_grown"), [(100, False), (101, True)])
def test_what_another_process_has_seen_is_no_progress_and_what_came_after_it_is(moved, has_grown):
    job = replace(a_job("/data/one/x"), bytes_done=100, silent_since=utc_now() - timedelta(hours=7))
    (haul,) = order_of(job, "key", site="chajnantor", collections=COLLECTIONS).hauls

    haul.note_progress(TaskNote.read({"task_id": "1", "status": "ACTIVE", "bytes_transferred": moved}))

    assert haul.is_silent(timedelta(hours=6)) is not has_grown


SEGMENTS = st.sampled_from(["a", "ab", "b", "a.b", "a b"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map(lambda parts: "/store/" + "/".join(parts))
TEXTS = st.lists(st.one_of(PATHS, st.sampled_from(["", " ", '"', "/", "/store/", "x"])), max_size=5).map("".join)


@given(sources=st.lists(PATHS, max_size=5, unique=True), text=TEXTS)
def test_a_text_speaks_of_a_source_where_it_holds_that_path_or_one_below(sources, text):
    loads = [replace(a_load(source), source=source) for source in sources]

    found = Places(loads).come_from(text)

    ends = r"""(?=[/"'\\\n\r\t ,;:)\]}>]|\Z)"""
    assert {load.source for load in found} == {each for each in sources if re.search(re.escape(each) + ends, text)}


def test_a_task_is_read_from_the_little_that_it_must_say():
    note = TaskNote.read({"task_id": "1", "status": "ACTIVE", "nice_status": None, "fatal_error": None})

    assert (note.nice_status, note.fatal_code, note.deadline, note.skipped_errors) == ("OK", "", None, None)
    assert not note.has_ended


def a_job(*sources: str | None) -> Job:
    items = tuple(
        Item(
            uuid=f"u{number}",
            token=Token.mint(),
            source=None if source is None else Path(source),
            kind=Kind.FILE,
            size=1,
        )
        for number, source in enumerate(sources)
    )
    return Job(peer=SiteName("nersc"), store=StoreName("fast"), address="there", staging="/staging", items=items)


COLLECTIONS = [
    Collection(store=StoreName("one"), collection="one", root=PurePosixPath("/a"), folder=Path("/data/one")),
    Collection(store=StoreName("two"), collection="two", root=PurePosixPath("~/b"), folder=Path("/data/two")),
]


def test_paths_are_told_as_the_collection_sees_them():
    order = order_of(a_job("/data/one/x/y"), "key", site="chajnantor", collections=COLLECTIONS)

    (haul,) = order.hauls
    (load,) = haul.loads
    assert (haul.label, haul.source, haul.destination) == ("chajnantor:key", "one", "there")
    assert (load.source, load.destination) == ("/a/x/y", f"/staging/{load.item.token}/payload")


def test_each_collection_that_is_read_from_has_a_task_of_its_own():
    order = order_of(a_job("/data/one/x", "/data/two/y"), "key", site="chajnantor", collections=COLLECTIONS)

    assert [(haul.label, haul.source, haul.submission_id) for haul in order.hauls] == [
        ("chajnantor:key", "one", "key"),
        ("chajnantor:key:1", "two", None),
    ]


def test_sources_on_no_collection_fail_alone():
    order = order_of(a_job("/data/one/x", "/elsewhere/y", None), "key", site="chajnantor", collections=COLLECTIONS)

    assert set(order.failed) == {"u1", "u2"}
    assert "no Globus collection" in order.failed["u1"]
