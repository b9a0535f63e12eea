"""What the pool answers, and which workers it keeps."""

import os
from pathlib import Path

import pytest

from librarian import checksum_pool, guard
from librarian.checksum import Algorithm, measure_blocking
from librarian.checksum_pool import SLICE_ITEMS, TRIP_ITEMS, ChecksumPool
from librarian.checksum_worker import CHUNK_MEMBERS, NICENESS, SLICE_LINES, SMALL_BYTES, SMALL_MEMBERS
from librarian.errors import Bug, Draining, NotFound, UnsupportedMember

#: As many members as make two chunks, and several slices of lines.
MANY = CHUNK_MEMBERS + SLICE_LINES


@pytest.fixture
async def pool():
    async with ChecksumPool(2) as pool:
        yield pool


def make_file(path, size):
    path.write_bytes(os.urandom(size))
    return path


def make_book(path, members, *, size=1):
    for number in range(members):
        folder = path / f"part {number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        make_file(folder / f"member-{number:05d}", size)
    (path / "empty").mkdir(parents=True)
    return path


def a_small_file(folder):
    return make_file(folder / "small", 10)


def a_large_file(folder):
    return make_file(folder / "large", SMALL_BYTES + 1)


def a_small_book(folder):
    return make_book(folder / "small", 3)


def an_empty_book(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def a_book_of_many_members(folder):
    return make_book(folder / "many", MANY)


def a_book_of_a_large_member_and_small_ones(folder):
    make_file(make_book(folder / "uneven", 3) / "huge", 3 * SMALL_BYTES)
    return folder / "uneven"


PAYLOADS = [
    a_small_file,
    a_large_file,
    a_small_book,
    an_empty_book,
    a_book_of_many_members,
    a_book_of_a_large_member_and_small_ones,
]


@pytest.mark.parametrize("make", PAYLOADS)
async def test_the_pool_finds_what_a_plain_reading_finds(pool, tmp_path, make):
    path = make(tmp_path)

    measured = await pool.measure(path, Algorithm.XXH3)

    assert measured == measure_blocking(path, Algorithm.XXH3)


@pytest.mark.parametrize("algorithm", Algorithm)
async def test_every_algorithm_works_in_a_worker(pool, tmp_path, algorithm):
    path = a_book_of_a_large_member_and_small_ones(tmp_path)

    measured = await pool.measure(path, algorithm)

    assert measured == measure_blocking(path, algorithm)


async def test_a_name_that_is_not_utf_8_may_stand_above_the_payload(pool, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9\n")
    folder.mkdir()

    measured = await pool.measure(a_book_of_a_large_member_and_small_ones(folder), Algorithm.XXH3)

    assert len(measured.members) == 5


async def test_many_payloads_are_answered_one_by_one_and_in_order(pool, tmp_path):
    paths = [make(tmp_path) for make in (a_large_file, a_small_file, a_book_of_many_members)]

    answers = await pool.measure_many([paths[0], tmp_path / "absent", *paths[1:]])

    assert isinstance(answers.pop(1), NotFound)
    assert answers == [measure_blocking(path, Algorithm.XXH3) for path in paths]


async def test_each_payload_may_have_an_algorithm_of_its_own(pool, tmp_path):
    small, large = a_small_file(tmp_path), a_large_file(tmp_path)

    answers = await pool.measure_many([(small, Algorithm.MD5), large, (large, Algorithm.SHA256)], Algorithm.BLAKE3)

    assert [answer.checksum.algorithm for answer in answers] == [Algorithm.MD5, Algorithm.BLAKE3, Algorithm.SHA256]


async def test_more_payloads_than_a_trip_takes_go_to_the_workers(pool, tmp_path):
    paths = [make_file(tmp_path / str(number), 3) for number in range(TRIP_ITEMS + 1)]
    paths[SLICE_ITEMS] = a_large_file(tmp_path)
    paths[SLICE_ITEMS + 1] = a_small_book(tmp_path)
    (tmp_path / "5").unlink()
    (tmp_path / "6").unlink()
    (tmp_path / "6").symlink_to("7")

    answers = await pool.measure_many(paths)

    assert isinstance(answers[5], NotFound)
    assert isinstance(answers[6], UnsupportedMember)
    assert answers[7:] == [measure_blocking(path, Algorithm.XXH3) for path in paths[7:]]
    assert pool.worker_pids


async def test_files_of_middling_size_are_answered_in_order_whatever_becomes_of_one(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(checksum_pool, "GROUP_BYTES", 2 * SMALL_BYTES)
    monkeypatch.setattr(checksum_pool, "GROUPED_BYTES", 3 * SMALL_BYTES)
    sizes = [2, 1, 1, 1, 4, 1]
    paths = [make_file(tmp_path / str(number), size * SMALL_BYTES + 1) for number, size in enumerate(sizes)]
    monkeypatch.setattr(guard, "_on_step", [lambda _: paths[2].unlink()])

    answers = await pool.measure_many(paths)

    assert isinstance(answers.pop(2), NotFound)
    assert answers == [measure_blocking(path, Algorithm.XXH3) for path in paths if path != paths[2]]


async def test_no_payloads_have_no_answers(pool):
    assert await pool.measure_many([]) == []


async def test_a_payload_that_is_not_there_is_not_found(pool, tmp_path):
    with pytest.raises(NotFound):
        await pool.measure(tmp_path / "absent", Algorithm.XXH3)


@pytest.mark.parametrize("members", [1, SMALL_MEMBERS + 1])
async def test_a_link_in_a_book_is_refused_by_name_wherever_it_is_read(pool, tmp_path, members):
    book = make_book(tmp_path / "book", members)
    (book / "odd").symlink_to("empty")

    with pytest.raises(UnsupportedMember, match="odd") as refusal:
        await pool.measure(book, Algorithm.XXH3)

    assert refusal.value.remedy


@pytest.mark.parametrize("make", PAYLOADS)
async def test_progress_never_falls_and_ends_with_the_size(pool, tmp_path, make):
    path = make(tmp_path)
    told = [0]

    measured = await pool.measure(path, Algorithm.XXH3, on_progress=told.append)

    assert told == sorted(told)
    assert told[-1] == measured.size


@pytest.mark.parametrize("make", PAYLOADS)
async def test_the_step_midway_is_passed_once(pool, tmp_path, make, monkeypatch):
    passed = []
    monkeypatch.setattr(guard, "_on_step", [passed.append])

    await pool.measure(make(tmp_path), Algorithm.XXH3)

    assert passed == ["half hashed"]


async def test_many_payloads_pass_the_step_midway_once(pool, tmp_path, monkeypatch):
    passed = []
    monkeypatch.setattr(guard, "_on_step", [passed.append])

    await pool.measure_many([a_small_file(tmp_path), a_large_file(tmp_path), a_small_book(tmp_path / "sub")])

    assert passed == ["half hashed"]


async def test_nothing_is_measured_inside_a_transaction(pool, tmp_path):
    with guard.transaction_open(), pytest.raises(Bug):
        await pool.measure(tmp_path, Algorithm.XXH3)
    with guard.transaction_open(), pytest.raises(Bug):
        await pool.measure_many([tmp_path])


async def test_small_payloads_start_no_worker(pool, tmp_path):
    await pool.measure_many([a_small_file(tmp_path), a_small_book(tmp_path / "sub")])

    assert pool.worker_pids == ()


async def test_workers_stay_when_they_are_idle(pool, tmp_path):
    path = a_large_file(tmp_path)
    await pool.measure(path, Algorithm.XXH3)
    before = pool.worker_pids

    await pool.measure(path, Algorithm.XXH3)

    assert len(before) == 1
    assert pool.worker_pids == before
    assert pool.busy_pids == ()


async def test_no_more_workers_start_than_were_allowed(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(checksum_pool, "GROUP_BYTES", 1)
    paths = [make_file(tmp_path / str(number), SMALL_BYTES + number + 1) for number in range(8)]

    await pool.measure_many(paths)

    assert len(pool.worker_pids) == 2


async def test_a_worker_inherits_no_descriptor_and_gives_way(pool, tmp_path):
    with (tmp_path / "kept").open("w") as kept:
        os.set_inheritable(kept.fileno(), True)

        await pool.measure(a_large_file(tmp_path), Algorithm.XXH3)

    (pid,) = pool.worker_pids
    assert {entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()} == {"0", "1", "2"}
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


async def test_a_closed_pool_says_that_it_is_draining(tmp_path):
    async with ChecksumPool(1) as pool:
        pass

    with pytest.raises(Draining):
        await pool.measure(a_large_file(tmp_path), Algorithm.XXH3)
