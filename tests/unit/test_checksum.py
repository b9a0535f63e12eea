"""Checksums as values: parsing, the book digest, listings."""

import dataclasses
import hashlib
import re
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librarian.checksum import (
    HEX_LENGTH,
    Algorithm,
    Checksum,
    Hasher,
    MemberDigest,
    book_checksum,
    measured_book,
    pack_members,
    unpack_members,
)
from librarian.errors import BadChecksum, BadName, IntegrityError
from librarian.names import MemberPath

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "checksums.md").read_text()
VECTORS = re.findall(r"^\| (none|`abc`|this one|empty) \| `([a-z0-9:-]+)` \|$", PAGE, re.MULTILINE)
BOOK_LINES = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1].encode()


def is_member_path(text):
    try:
        return bool(MemberPath(text))
    except BadName:
        return False


def digits(length):
    return st.text("0123456789abcdef", min_size=length, max_size=length)


algorithms = st.sampled_from(Algorithm)
paths = st.text(min_size=1, max_size=40).filter(is_member_path).map(MemberPath)
files = st.builds(MemberDigest, path=paths, size=st.integers(0, 2**60), hex=digits(32))
empty_directories = st.builds(MemberDigest, path=paths, size=st.just(0), hex=st.none())
members = st.lists(files | empty_directories, max_size=12, unique_by=lambda member: member.path)


def a_member(path="a", *, size=1, digest="0" * 32):
    return MemberDigest(path=MemberPath(path), size=size, hex=digest)


@given(algorithms.flatmap(lambda each: st.tuples(st.just(each), digits(HEX_LENGTH[each]))), st.booleans())
def test_a_checksum_reads_back_as_what_it_was_made_of(parts, is_book):
    algorithm, digest = parts

    checksum = Checksum(str(Checksum.of(algorithm, digest, is_book=is_book)))

    assert (checksum.algorithm, checksum.hex, checksum.is_book) == (algorithm, digest, is_book)


def test_a_checksum_is_written_as_algorithm_and_digest():
    assert Checksum.of(Algorithm.XXH3, "0f" * 16) == "xxh3:" + "0f" * 16
    assert Checksum.of(Algorithm.SHA256, "0f" * 32, is_book=True) == "book1-sha256:" + "0f" * 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 32,
        "xxh3",
        "xxh3:",
        "xxh3:" + "0" * 31,
        "xxh3:" + "0" * 33,
        "xxh3:" + "A" * 32,
        "xxh3:" + "0" * 31 + "g",
        "xxh3:" + "0" * 32 + "\n",
        "XXH3:" + "0" * 32,
        "sha1:" + "0" * 40,
        "book2-xxh3:" + "0" * 32,
        "book1-book1-xxh3:" + "0" * 32,
        " xxh3:" + "0" * 32,
        None,
        17,
    ],
)
def test_anything_else_is_refused_with_a_remedy(text):
    with pytest.raises(BadChecksum) as refusal:
        Checksum(text)

    assert refusal.value.remedy


def test_a_trusted_checksum_is_not_looked_at_again():
    assert Checksum.trusted("xxh3:whatever").hex == "whatever"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_hash_of_pieces_is_the_hash_of_the_whole(algorithm):
    pieces, whole = Hasher(algorithm), Hasher(algorithm)

    pieces.update(b"a")
    pieces.update(memoryview(bytearray(b"bc")))
    whole.update(b"abc")

    assert pieces.hexdigest() == whole.hexdigest()


@pytest.mark.parametrize(("content", "written"), [each for each in VECTORS if each[0] in ("none", "`abc`")])
def test_the_vectors_of_files_hold(content, written):
    checksum = Checksum(written)
    hasher = Hasher(checksum.algorithm)

    hasher.update({"none": b"", "`abc`": b"abc"}[content])

    assert hasher.hexdigest() == checksum.hex


def test_every_algorithm_has_vectors_of_files_and_books():
    assert {Checksum(written).algorithm for content, written in VECTORS if content == "`abc`"} == set(Algorithm)
    assert {Checksum(written).algorithm for content, written in VECTORS if content == "this one"} == set(Algorithm)


def test_the_book_of_the_page_has_the_checksum_of_its_lines():
    written = next(each for content, each in VECTORS if content == "this one" and "sha256" in each)

    assert written == "book1-sha256:" + hashlib.sha256(BOOK_LINES).hexdigest()
    assert book_checksum(unpack_members(zlib.compress(BOOK_LINES)), Algorithm.SHA256) == written


def test_an_empty_book_has_the_digest_of_no_bytes():
    assert book_checksum([], Algorithm.XXH3) == next(each for content, each in VECTORS if content == "empty")


@given(members, st.randoms(use_true_random=False))
def test_a_book_checksum_does_not_depend_on_the_order_of_members(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)

    assert book_checksum(shuffled, Algorithm.XXH3) == book_checksum(found, Algorithm.XXH3)
    assert measured_book(shuffled, Algorithm.XXH3) == measured_book(found, Algorithm.XXH3)


@pytest.mark.parametrize(
    "other",
    [
        a_member("b"),
        a_member(size=2),
        a_member(digest="1" * 32),
        a_member(digest=None),
    ],
)
def test_a_book_checksum_covers_name_size_and_digest(other):
    assert book_checksum([other], Algorithm.XXH3) != book_checksum([a_member()], Algorithm.XXH3)


@given(members)
def test_a_listing_reads_back_as_the_members_in_the_order_of_the_lines(found):
    assert unpack_members(pack_members(found)) == measured_book(found, Algorithm.XXH3).members


def test_a_listing_keeps_names_with_spaces_and_foreign_line_ends():
    names = ["two  words ", " leading", "line\N{LINE SEPARATOR}separator", "back\\slash", "ü"]

    unpacked = unpack_members(pack_members([a_member(name) for name in names]))

    assert {member.path for member in unpacked} == set(names)


def test_a_listing_is_the_text_that_was_hashed():
    assert zlib.decompress(pack_members(reversed(unpack_members(zlib.compress(BOOK_LINES))))) == BOOK_LINES


@pytest.mark.parametrize("blob", [b"", b"no zlib", zlib.compress(b"no line\n"), zlib.compress(b"\xff 1 a\n")])
def test_a_damaged_listing_is_refused(blob):
    with pytest.raises(IntegrityError):
        unpack_members(blob)


def test_a_hundred_thousand_members_make_a_small_listing():
    found = [
        a_member(f"frames/{number:06d}.fits", size=10_000, digest=hashlib.md5(b"%d" % number).hexdigest())
        for number in range(100_000)
    ]

    assert len(pack_members(found)) < 4_000_000


def test_the_size_of_a_book_is_that_of_its_members():
    assert measured_book([a_member("a", size=2), a_member("b", size=3)], Algorithm.XXH3).size == 5


def test_what_was_measured_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_member().size = 2
