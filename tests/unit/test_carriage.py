"""What is said of copies that travel on drives, at either end."""

from dataclasses import replace

import pytest

from librarian.catalog.drives import DriveRecord
from librarian.catalog.receptions import Reception
from librarian.catalog.standing import Standing
from librarian.states import Arrival, DriveState, DueState, Presence, ReceptionState, RuleWay, TransferState
from tests.unit.test_reasons import ABSENT, AGO, ARRIVING, COPY, HELD, HOUR, LEAVING, due, said

A07 = DriveRecord(
    id=1,
    store_id=2,
    name="A07",
    uuid="d",
    is_open=False,
    serial=None,
    filesystem="ext4",
    size=100,
    full_at=980,
    state=DriveState.IN_TRANSIT,
    since=AGO,
    who="ana",
    round=1,
    generation=3,
    path="/media/a07",
    is_plugged=False,
    seen_at=AGO,
    created_at=AGO,
    files=1,
    bytes=10,
)
RECEPTION = Reception(
    id=1,
    uuid="m",
    drive="A07",
    origin="chajnantor",
    peer_id=1,
    head="{}",
    path="/media/a07",
    account="ana",
    state=ReceptionState.RECEIVING,
    reason=None,
    entries=1,
    created_at=AGO,
    progressed_at=AGO,
)
ENTRY = replace(ARRIVING, arrival=Arrival.DRIVE, peer_id=1)
TRAVELS = replace(LEAVING, batch_id=None, manifest_id=1)


def arriving(state=TransferState.INITIATED, *, reason=None, **changes) -> Standing:
    """A file that is read from the drive of another site."""
    entry = replace(ENTRY, state=state, reason=reason)
    return replace(ABSENT, arrival=entry, reception=replace(RECEPTION, **changes))


def resting(state: DriveState, *, is_plugged: bool = False) -> Standing:
    """A copy on a drive of ours."""
    drive = replace(A07, state=state, is_plugged=is_plugged)
    return replace(HELD, instances=(replace(COPY, store="A07"),), drives={"A07": drive})


def loaded(state: DriveState, **changes) -> Standing:
    """A copy that rests on a drive for a peer."""
    owed = due(DueState.LOADED, reason="on A07", way=RuleWay.CARRIED, rule="post").dues
    return replace(resting(state), dues=owed, **changes)


@pytest.mark.parametrize(
    ("standing", "told"),
    [
        (arriving(), f"(10 bytes) is not read yet; the drive is being received at /media/a07 since {HOUR}."),
        (arriving(state=TransferState.FAILED, reason="it differs"), "(10 bytes) was refused 60 min ago: it differs."),
        (
            replace(arriving(), reception=replace(RECEPTION, reason="it is away")),
            f"(10 bytes) is not read yet; the drive went on last at {HOUR}, and waits: it is away.",
        ),
        (
            replace(arriving(), reception=replace(RECEPTION, state=ReceptionState.CANCELLED)),
            f"(10 bytes) was not read; receiving the drive is cancelled since {HOUR}.",
        ),
    ],
    ids=["read", "refused", "away", "given up"],
)
def test_what_comes_on_a_drive_says_on_which_and_what_that_waits_for(standing, told):
    assert said(standing) == f"What the drive A07 of chajnantor carries {told}"


def test_a_copy_that_comes_from_another_store_is_no_clone():
    copy = replace(ARRIVING, arrival=Arrival.COPY, account="librarian")

    assert said(replace(ABSENT, arrival=copy)).startswith("The copy from another store (10 bytes) is under way to fast")


@pytest.mark.parametrize(
    ("standing", "told"),
    [
        (resting(DriveState.IN_TRANSIT), f"is in transit since {HOUR}, and not plugged in since {HOUR}."),
        (resting(DriveState.FULL, is_plugged=True), f"is full since {HOUR}, and plugged in at /media/a07."),
    ],
    ids=["away", "here"],
)
def test_a_copy_on_a_drive_says_where_that_stands(standing, told):
    assert said(standing) == f"A good copy is on A07, verified 60 min ago; that drive {told}"


@pytest.mark.parametrize(
    ("standing", "told"),
    [
        (loaded(DriveState.LOADING), f"loading since {HOUR}, and is yet to be sealed"),
        (loaded(DriveState.SEALING, leaving=(TRAVELS,)), f"sealing since {HOUR}, and is yet to be carried to nersc"),
        (
            loaded(DriveState.SEALED, leaving=(TRAVELS,)),
            f"sealed since {HOUR}, and is yet to be unplugged and carried to nersc",
        ),
        (
            loaded(DriveState.IN_TRANSIT, leaving=(TRAVELS,)),
            f"in transit since {HOUR}, and nersc has told of nothing on it yet",
        ),
        (
            loaded(DriveState.RECEIVED, leaving=(TRAVELS,)),
            f"received since {HOUR}, and nersc has not told of this file yet",
        ),
        (
            loaded(DriveState.RECEIVED),
            f"received since {HOUR}, and nersc could not take the file from it: 'librarian show' tells why",
        ),
    ],
    ids=["loading", "sealing", "sealed", "in transit", "being received", "not taken"],
)
def test_a_copy_that_is_carried_says_what_has_to_happen_to_its_drive(standing, told):
    assert said(standing).splitlines()[-1] == (
        f"The copy at nersc that the rule post asks for rests on A07 since {HOUR}: A07 is {told}."
    )


def test_where_a_drive_stands_is_not_told_of_a_copy_that_is_no_longer_on_it():
    gone = replace(COPY, store="A07", presence=Presence.REMOVED)

    assert "that drive" not in said(replace(resting(DriveState.LOADING), instances=(gone,)))


def test_a_copy_that_is_sent_and_carried_too_tells_how_it_is_sent():
    assert "moves in batch 7 of the http engine" in said(due(DueState.SENDING, leaving=(TRAVELS, LEAVING)))
