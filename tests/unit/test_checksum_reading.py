"""Reading payloads from disk: what counts, what is refused, what is noticed."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from librarian import checksum
from librarian.checksum import Algorithm, Checksum, measure_blocking
from librarian.errors import NotFound, SourceChanged, UnsupportedMember
from librarian.states import Kind

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "checksums.md").read_text()
RECIPE = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)[1]
BOOK_VECTORS = re.findall(r"^\| this one \| `(.*)` \|$", PAGE, re.MULTILINE)
NOBODY = 65534


@pytest.fixture
def book(tmp_path):
    """The book of the page's test vectors."""
    top = tmp_path / "book"
    (top / "empty").mkdir(parents=True)
    (top / "nested" / "deeper").mkdir(parents=True)
    (top / "hello.txt").write_bytes(b"hello\n")
    (top / "nothing").touch()
    (top / "nested" / "two words ü.dat").write_bytes(b"abc")
    return top


def run_recipe(book):
    done = subprocess.run(["bash", "-euc", RECIPE], cwd=book, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("written", BOOK_VECTORS)
def test_the_vectors_of_books_hold_on_a_real_tree(book, written):
    assert measure_blocking(book, Checksum(written).algorithm).checksum == written


def test_the_recipe_for_the_shell_finds_the_same(book):
    (book / "nested" / " spaces  within and after ").write_bytes(b"1")
    (book / "back\\slash").write_bytes(b"2")
    (book / "nested" / "empty too, with spaces").mkdir()
    (book / "line\N{LINE SEPARATOR}separator").write_bytes(b"3")

    assert measure_blocking(book, Algorithm.SHA256).checksum == f"book1-sha256:{run_recipe(book)}"


def test_the_recipe_agrees_on_an_empty_book(tmp_path):
    assert measure_blocking(tmp_path, Algorithm.SHA256).checksum == f"book1-sha256:{run_recipe(tmp_path)}"


def test_an_empty_book_has_no_members_and_no_size(tmp_path):
    measured = measure_blocking(tmp_path, Algorithm.XXH3)

    assert (measured.kind, measured.size, measured.members) == (Kind.BOOK, 0, ())


def test_a_file_has_no_members(book):
    measured = measure_blocking(book / "hello.txt", Algorithm.XXH3)

    assert (measured.kind, measured.size, measured.members) == (Kind.FILE, 6, ())


def test_only_directories_with_nothing_in_them_are_members(book):
    measured = measure_blocking(book, Algorithm.XXH3)

    assert {member.path for member in measured.members if member.hex is None} == {"empty", "nested/deeper"}


def test_an_empty_directory_changes_the_checksum(book):
    before = measure_blocking(book, Algorithm.XXH3).checksum

    (book / "empty" / "another").mkdir()

    assert measure_blocking(book, Algorithm.XXH3).checksum != before


def test_members_are_given_in_the_order_of_the_lines(book):
    measured = measure_blocking(book, Algorithm.SHA256)

    assert [member.path for member in measured.members] == [
        "empty",
        "nested/deeper",
        "hello.txt",
        "nested/two words ü.dat",
        "nothing",
    ]


def test_modes_and_times_are_not_covered(book):
    before = measure_blocking(book, Algorithm.XXH3)

    (book / "hello.txt").chmod(0o444)
    os.utime(book / "hello.txt", (0, 0))

    assert measure_blocking(book, Algorithm.XXH3) == before


def test_each_hard_link_is_a_member_on_its_own(book):
    (book / "again.txt").hardlink_to(book / "hello.txt")

    measured = measure_blocking(book, Algorithm.XXH3)

    assert {member.path for member in measured.members if member.size == 6} == {"again.txt", "hello.txt"}


def test_a_hole_is_read_as_zeros(tmp_path):
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(3_000_000)
    (tmp_path / "zeros").write_bytes(bytes(3_000_000))

    sparse, zeros = (measure_blocking(tmp_path / name, Algorithm.BLAKE3) for name in ("sparse", "zeros"))

    assert sparse == zeros


@pytest.mark.parametrize("around", [checksum._SMALL_BUFFER_BYTES, checksum.BUFFER_BYTES, 3 * checksum.BUFFER_BYTES])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_payload_of_any_length_is_read_to_its_end(tmp_path, around, more):
    content = os.urandom(around + more)
    (tmp_path / "file").write_bytes(content)
    hasher = checksum.Hasher(Algorithm.XXH3)
    hasher.update(content)

    measured = measure_blocking(tmp_path / "file", Algorithm.XXH3)

    assert (measured.size, measured.checksum.hex) == (len(content), hasher.hexdigest())


def test_the_bytes_read_are_told(book):
    told = []

    measure_blocking(book, Algorithm.XXH3, told.append)

    assert sum(told) == 9


def test_a_deep_book_is_read_to_its_bottom(tmp_path):
    tmp_path.joinpath(*["d"] * 400).mkdir(parents=True)

    measured = measure_blocking(tmp_path, Algorithm.XXH3)

    assert [member.path for member in measured.members] == ["/".join("d" * 400)]


def test_the_longest_names_are_fine(tmp_path):
    deepest = tmp_path.joinpath(*["n" * 255] * 8)
    deepest.parent.mkdir(parents=True)
    deepest.touch()

    (member,) = measure_blocking(tmp_path, Algorithm.XXH3).members

    assert len(member.path) == 2047


def test_a_path_that_is_too_long_is_refused(tmp_path):
    deep = tmp_path.joinpath(*["n" * 255] * 8)
    deep.mkdir(parents=True)
    (deep / "x").touch()

    with pytest.raises(UnsupportedMember, match="bytes"):
        measure_blocking(tmp_path, Algorithm.XXH3)


@pytest.mark.parametrize("name", [b"new\nline", b"escape\x1b", b"not \xff utf-8", "c1\N{NEXT LINE}".encode()])
def test_a_bad_name_is_refused(book, name):
    (book / os.fsdecode(name)).touch()

    with pytest.raises(UnsupportedMember):
        measure_blocking(book, Algorithm.XXH3)


def test_a_directory_with_a_bad_name_is_refused_even_when_empty(book):
    (book / "new\nline").mkdir()

    with pytest.raises(UnsupportedMember):
        measure_blocking(book, Algorithm.XXH3)


def make_link(path):
    path.symlink_to("hello.txt")


def make_link_to_directory(path):
    path.symlink_to("nested")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [make_link, make_link_to_directory, os.mkfifo, make_socket])
def test_anything_but_files_and_directories_is_refused_by_name(book, make):
    make(book / "nested" / "odd")

    with pytest.raises(UnsupportedMember, match="nested/odd"):
        measure_blocking(book, Algorithm.XXH3)


@pytest.mark.parametrize("make", [make_link, make_link_to_directory, os.mkfifo, make_socket])
def test_a_payload_that_is_neither_file_nor_directory_is_refused(book, make):
    make(book / "odd")

    with pytest.raises(UnsupportedMember, match="odd"):
        measure_blocking(book / "odd", Algorithm.XXH3)


@pytest.mark.parametrize("path", ["absent", "hello.txt/absent"])
def test_a_payload_that_is_not_there_is_not_found(book, path):
    with pytest.raises(NotFound):
        measure_blocking(book / path, Algorithm.XXH3)


def appending(path):
    def change(_):
        with path.open("ab") as file:
            file.write(b"more")

    return change


def truncating(path):
    return lambda _: os.truncate(path, 10)


def touching(path):
    return lambda _: os.utime(path, (1, 1))


@pytest.mark.parametrize("meanwhile", [appending, truncating, touching])
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path, meanwhile):
    (tmp_path / "file").write_bytes(bytes(3 * checksum.BUFFER_BYTES))

    with pytest.raises(SourceChanged, match="file"):
        measure_blocking(tmp_path / "file", Algorithm.XXH3, meanwhile(tmp_path / "file"))


def test_a_member_that_vanishes_while_the_book_is_read_is_noticed(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    root = checksum.open_book(tmp_path)
    walk = checksum.walk_book(root)
    met = [next(walk), next(walk)]
    (tmp_path / "b").unlink()
    reader = checksum.Reader(Algorithm.XXH3)

    with pytest.raises(SourceChanged, match="b"):
        [reader.member(*each) for each in met]

    walk.close()
    os.close(root)


def test_a_member_with_another_inode_number_than_before_is_the_same(tmp_path):
    """FAT gives new numbers to what nobody has used for a while."""
    book, other = tmp_path / "book", tmp_path / "other"
    book.mkdir()
    (book / "a").write_bytes(b"1")
    before = measure_blocking(book, Algorithm.XXH3)
    root = checksum.open_book(book)
    walk = checksum.walk_book(root)
    met = next(walk)
    shutil.copy2(book / "a", other)
    other.replace(book / "a")

    found = checksum.Reader(Algorithm.XXH3).member(*met)

    walk.close()
    os.close(root)
    assert (found,) == before.members


def test_a_directory_that_becomes_a_link_is_not_followed(book, tmp_path):
    (tmp_path / "outside").mkdir()
    (book / "nested").rename(book / "before")
    (book / "nested").symlink_to(tmp_path / "outside")
    root = checksum.open_book(book)

    with pytest.raises(SourceChanged, match="nested"):
        checksum.open_beneath(root, "nested/")

    os.close(root)


def test_a_member_that_may_not_be_read_is_unavailable(book):
    if os.getuid() != 0:
        pytest.skip("needs: root, which alone may become somebody else")
    (book / "hello.txt").chmod(0)
    script = f"""
import os, pathlib, sys
from librarian.checksum import Algorithm, measure_blocking
from librarian.errors import Unavailable
os.chdir({str(book)!r})
os.setgroups([])
os.setuid({NOBODY})
try:
    measure_blocking(pathlib.Path("."), Algorithm.XXH3)
except Unavailable as refusal:
    print(refusal.message)
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "hello.txt" in done.stdout
