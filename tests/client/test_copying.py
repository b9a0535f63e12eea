"""Copying into staging: what is copied, what is measured, and what a disk may do meanwhile."""

import errno
import os

import pytest

from librarian.checksum import Algorithm, measure_blocking
from librarian.client import copying, sources
from librarian.client.lanes import Halt, Halted
from librarian.errors import NoRoom, SourceChanged, StoreUnavailable

MIB = 1024**2
#: Empty, small, more than one buffer, and large enough for a second thread.
SIZES = [0, 1, MIB, MIB + 1, 3 * MIB, copying.LARGE, copying.LARGE + 5]


@pytest.fixture
def part(tmp_path):
    """A source of so many random bytes, looked at."""

    def make(size):
        (tmp_path / "source").write_bytes(os.urandom(size))
        return sources.survey(tmp_path / "source").parts[0]

    return make


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target"


def ignore(count):
    """Count nothing."""


@pytest.mark.parametrize("size", SIZES)
def test_the_copy_is_equal_and_its_digest_right(part, target, tmp_path, size):
    one = part(size)
    counted = []

    digest = copying.copy_part(one, str(target), Algorithm.XXH3, counted.append)

    assert target.read_bytes() == (tmp_path / "source").read_bytes()
    assert digest == measure_blocking(target, Algorithm.XXH3).checksum.hex
    assert sum(counted) == size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_copy_that_was_begun_is_finished(part, target, tmp_path, size, share):
    one = part(size)
    content = (tmp_path / "source").read_bytes()
    target.write_bytes(content[: int(size * share)])
    counted = []

    digest = copying.copy_part(one, str(target), Algorithm.SHA256, counted.append)

    assert target.read_bytes() == content
    assert digest == measure_blocking(target, Algorithm.SHA256).checksum.hex
    assert sum(counted) == size


def test_what_stands_beyond_the_end_is_cut_off(part, target, tmp_path):
    one = part(10)
    target.write_bytes((tmp_path / "source").read_bytes() + b"beyond")

    copying.copy_part(one, str(target), Algorithm.XXH3, ignore)

    assert target.stat().st_size == 10


@pytest.mark.parametrize("size", [3 * MIB, copying.LARGE + 5])
@pytest.mark.parametrize("change", ["longer", "shorter", "other"])
def test_a_source_that_changes_while_it_is_read_is_noticed(part, target, tmp_path, size, change):
    one = part(size)
    ways = {
        "longer": lambda: os.truncate(one.path, size + 1),
        "shorter": lambda: os.truncate(one.path, size // 2),
        "other": lambda: os.utime(one.path, ns=(1, 1)),
    }

    with pytest.raises(SourceChanged, match="source"):
        copying.copy_part(one, str(target), Algorithm.XXH3, lambda count: ways[change]())


def test_a_source_that_was_replaced_is_noticed(part, target, tmp_path):
    one = part(10)
    (tmp_path / "other").write_bytes(b"0123456789")
    (tmp_path / "other").rename(tmp_path / "source")

    with pytest.raises(SourceChanged):
        copying.copy_part(one, str(target), Algorithm.XXH3, ignore)


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, NoRoom), (errno.EDQUOT, NoRoom), (errno.EIO, StoreUnavailable)]
)
def test_a_disk_that_refuses_is_told_as_what_it_is(part, target, monkeypatch, size, number, expected):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    one = part(size)
    monkeypatch.setattr(os, "pwrite", refuse)

    with pytest.raises(expected):
        copying.copy_part(one, str(target), Algorithm.XXH3, ignore)


def test_a_full_disk_is_told_as_no_room(part):
    with pytest.raises((NoRoom, StoreUnavailable)):
        copying.copy_part(part(MIB), "/dev/full", Algorithm.XXH3, ignore)


def test_a_link_in_place_of_the_target_is_not_followed(part, target, tmp_path):
    target.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreUnavailable):
        copying.copy_part(part(10), str(target), Algorithm.XXH3, ignore)

    assert not (tmp_path / "elsewhere").exists()


def test_what_is_copied_can_be_read_by_a_server_under_another_user(part, target, tmp_path):
    before = os.umask(0o077)
    try:
        copying.copy_part(part(10), str(target), Algorithm.XXH3, ignore)
        copying.make_directories(str(tmp_path / "book"), ("a", "a/b"))
    finally:
        os.umask(before)

    assert target.stat().st_mode & 0o444 == 0o444
    assert (tmp_path / "book" / "a" / "b").stat().st_mode & 0o555 == 0o555


@pytest.mark.parametrize("size", [3 * MIB, copying.LARGE + 5])
def test_a_cancelled_copy_stops_soon(part, target, size):
    halt = Halt()
    halt.set()

    with pytest.raises(Halted):
        copying.copy_part(part(size), str(target), Algorithm.XXH3, lambda count: halt.check())

    assert target.stat().st_size < size
