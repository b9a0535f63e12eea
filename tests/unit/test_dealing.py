"""Dealing: the light never wait behind the heavy, and one bad item ends up alone."""

from librarian.catalog.incoming_rows import Candidate
from librarian.names import StoreName, TransferId
from librarian.policies import GIB, MIB, IngestPolicy
from librarian.tasks.dealing import Lane, Weight, closed, deal

FAST, SLOW = StoreName("fast"), StoreName("slow")
POLICY = IngestPolicy()


def candidates(*sizes: int, store=FAST, attempts=0, first=1) -> list[Candidate]:
    return [
        Candidate(id=TransferId(number), store=store, size=size, attempts=attempts)
        for number, size in enumerate(sizes, first)
    ]


def dealt(batches) -> dict[Lane, list[int]]:
    return {batch.lane: [each.id for each in batch.candidates] for batch in batches}


def test_small_ones_go_together_and_a_large_one_beside_them():
    batches = deal(candidates(10, 4 * GIB, 20), busy=(), policy=POLICY)

    assert dealt(batches) == {Lane(FAST, Weight.LIGHT): [1, 3], Lane(FAST, Weight.HEAVY): [2]}


def test_two_heavy_ones_run_side_by_side_and_a_third_waits():
    batches = deal(candidates(4 * GIB, 5 * GIB, 6 * GIB), busy=(), policy=POLICY)

    assert dealt(batches) == {Lane(FAST, Weight.HEAVY, 0): [1], Lane(FAST, Weight.HEAVY, 1): [2]}


def test_each_store_has_lanes_of_its_own():
    batches = deal(candidates(1) + candidates(2, store=SLOW, first=2), busy=(), policy=POLICY)

    assert dealt(batches) == {Lane(FAST, Weight.LIGHT): [1], Lane(SLOW, Weight.LIGHT): [2]}


def test_a_busy_lane_takes_nothing():
    busy = {Lane(FAST, Weight.LIGHT)}

    assert dealt(deal(candidates(1, 4 * GIB), busy=busy, policy=POLICY)) == {Lane(FAST, Weight.HEAVY): [2]}


def test_a_batch_is_bounded_by_files():
    batches = deal(candidates(1, 2, 3), busy=(), policy=IngestPolicy(batch_files=2))

    assert dealt(batches) == {Lane(FAST, Weight.LIGHT): [1, 2]}


def test_a_batch_is_bounded_by_bytes_but_a_first_one_always_fits():
    batches = deal(candidates(200 * MIB, 200 * MIB), busy=(), policy=IngestPolicy(batch_bytes=100 * MIB))

    assert dealt(batches) == {Lane(FAST, Weight.MEDIUM): [1]}


def test_those_who_failed_together_come_back_in_smaller_batches():
    sizes = [len(deal(candidates(*[1] * 2000, attempts=n), busy=(), policy=POLICY)[0].candidates) for n in range(5)]

    assert sizes == [1024, 64, 4, 1, 1]


def test_those_who_failed_do_not_join_those_who_did_not():
    batches = deal(candidates(1) + candidates(1, attempts=1, first=2), busy=(), policy=POLICY)

    assert dealt(batches) == {Lane(FAST, Weight.LIGHT): [1]}


def test_what_no_lane_can_take_is_not_asked_for():
    busy = {Lane(FAST, Weight.LIGHT), Lane(FAST, Weight.HEAVY, 0)}

    assert closed(busy, [SLOW]) == [(SLOW, 0, 2**63 - 1), (FAST, 0, 4 * MIB)]
