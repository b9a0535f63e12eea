"""Which of the places that say they are a drive is that drive."""

import uuid
from pathlib import Path

import pytest

from librarian.catalog.drives import DriveId, DriveRecord
from librarian.names import StoreId, StoreName
from librarian.states import DriveState
from librarian.stores.examining import Claim
from librarian.stores.identity import Identity
from librarian.tasks.plug import sighted
from librarian.timing import utc_now

UUID = str(uuid.UUID(int=7))


def drive(**changes):
    known = {
        "id": DriveId(1),
        "store_id": StoreId(1),
        "name": StoreName("A07"),
        "uuid": UUID,
        "is_open": True,
        "serial": None,
        "filesystem": "ext4",
        "size": 1,
        "full_at": 980,
        "state": DriveState.LOADING,
        "since": utc_now(),
        "who": "ana",
        "round": 1,
        "generation": 7,
        "path": "/media/a07",
        "is_plugged": False,
        "seen_at": utc_now(),
        "created_at": utc_now(),
        "files": 0,
        "bytes": 0,
    }
    return DriveRecord(**{**known, **changes})


def claim(path, generation, *, key=None, of=UUID):
    identity = Identity(uuid=of, generation=generation)
    return Claim(path=Path(path), identity=identity, key=key or (hash(path), 2), is_sealed=False)


def places_of(sighting):
    return sighting.place and str(sighting.place.path), [str(other.path) for other in sighting.others]


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([], (None, [])),
        ([claim("/a", 9, of=str(uuid.UUID(int=8)))], (None, [])),
        ([claim("/a", 7)], ("/a", [])),
        ([claim("/a", 8)], ("/a", [])),
        ([claim("/a", 6)], (None, ["/a"])),
        ([claim("/a", 7), claim("/b", 8)], ("/b", ["/a"])),
        ([claim("/a", 7, key=(1, 2)), claim("/b", 7, key=(1, 2))], ("/a", [])),
        ([claim("/a", 7, key=(1, 2)), claim("/media/a07", 7, key=(1, 2))], ("/media/a07", [])),
    ],
    ids=["nobody", "another", "here", "ahead", "a copy", "both", "mounted twice", "mounted twice, once as before"],
)
def test_the_drive_is_told_from_its_copies(claims, expected):
    assert places_of(sighted(drive(), claims)) == expected


def test_of_two_that_are_equal_nobody_can_tell_which_is_the_drive():
    sighting = sighted(drive(), [claim("/a", 7), claim("/media/a07", 7)])

    assert sighting.place is None
    assert {str(other.path) for other in sighting.others} == {"/a", "/media/a07"}


def test_of_two_that_are_equal_the_one_that_was_in_use_goes_on():
    sighting = sighted(drive(is_plugged=True), [claim("/a", 7), claim("/media/a07", 7)])

    assert places_of(sighting) == ("/media/a07", ["/a"])
