"""What ``drive status`` prints: the same as the page, in lines."""

from librarian.admin.journeys import lines_of
from librarian.states import DriveState
from librarian.wire.journeys import DriveStatus
from tests.journeys import NOW, TB, amount, in_the_post, journey, outlook


def read(*drives, rules=()) -> str:
    return "\n".join(lines_of(DriveStatus(at=NOW, drives=list(drives), rules=list(rules))))


def test_a_drive_is_told_with_where_it_is_and_what_is_wrong_with_it():
    told = read(journey(is_plugged=True, path="/media/a07", problem="it cannot be read"))

    assert "plugged in at /media/a07\n    it cannot be read" in told
    assert "not plugged in, last at /media/a07" in read(journey(is_plugged=False, path="/media/a07", problem="away"))


def test_a_drive_of_which_nothing_is_waited_for_may_be_released():
    hint = "nothing on it is waited for any more"

    assert hint not in read(in_the_post())
    assert hint in read(in_the_post(waiting=amount(0, 0)))
    assert hint not in read(in_the_post(waiting=amount(0, 0)).model_copy(update={"state": DriveState.CONFIRMED}))


def test_what_a_rule_takes_is_told_without_noughts():
    idle = outlook(due=amount(0, 0), room_bytes=TB, drives_due=0, drives_per_week=0.0, full_in_seconds=None)
    busy = outlook(due=amount(1, 10), room_bytes=TB, drives_due=1, full_in_seconds=86_400.0)
    beyond = outlook(due=amount(1, 2 * TB), room_bytes=TB, quarantined=amount(1, 10))

    assert "on no drive yet: none" in read(rules=[idle])
    assert "needs no more drives of 4 TB now, then 0 a week" in read(rules=[idle])
    assert "being loaded: 1 TB, full in 1 d; arriving" in read(rules=[busy])
    assert "needs 1 more drive of 4 TB now" in read(rules=[busy])
    assert "being loaded: 1 TB, which what is due fills; arriving" in read(rules=[beyond])
    assert "in quarantine: 1 file, 10 B; see 'transfer stopped --peer nersc'" in read(rules=[beyond])
