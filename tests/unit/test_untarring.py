"""Untarring: what tar writes becomes members, and every trick is refused."""

import io
import random
import subprocess
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librarian.errors import BadRequest, LibrarianError, TooLarge, UnsupportedMember
from librarian.web.untarring import Untar

PLENTY = 2**40


async def unpack(stream: bytes, *, limit: int = PLENTY, piece: int = 700) -> dict[str, bytes | None]:
    """The members in *stream*, which comes in pieces; None is a directory."""

    async def chunks():
        for at in range(0, len(stream), piece):
            yield stream[at : at + piece]

    tar = Untar(chunks(), limit=limit)
    members = {}
    async for entry in tar.entries():
        members[entry.path] = None if entry.is_directory else b"".join([part async for part in tar.content()])
    return members


def entry(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, form=tarfile.USTAR_FORMAT, **fields
) -> bytes:
    """One entry as tarfile writes it, with *fields* of TarInfo changed."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(form, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)


END = bytes(1024)


def resealed(block: bytes, at: int, change: bytes) -> bytes:
    """A header with *change* written at *at*, and its checksum made right again."""
    changed = bytearray(block)
    changed[at : at + len(change)] = change
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed[:512])
    return bytes(changed)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("piece", [1, 511, 10_000])
async def test_files_and_directories_of_every_format_are_read(form, piece):
    long = "deep/" * 40 + "x" * 120
    names = {"a": b"1", "d/b": b"2" * 1000, "d/ü": b"", **({} if form == tarfile.USTAR_FORMAT else {long: b"3"})}
    stream = b"".join(entry(name, content, form=form) for name, content in names.items()) + END

    assert await unpack(stream, piece=piece) == names


@pytest.mark.parametrize(
    "options",
    [
        ["data/book"],
        ["./data/book"],
        ["-C", "data", "book"],
        ["-C", "data/book", "."],
        ["--format=posix", "data/book"],
        ["-b", "1", "data/book"],
    ],
)
async def test_a_book_has_the_same_members_however_tar_was_called(tmp_path, options):
    book = tmp_path / "data" / "book"
    (book / "d").mkdir(parents=True)
    (book / "empty").mkdir()
    (book / "a").write_bytes(b"1")
    (book / "d" / "b").write_bytes(b"2" * 3000)
    stream = subprocess.run(["tar", "-c", "-f", "-", *options], cwd=tmp_path, check=True, capture_output=True).stdout

    assert await unpack(stream) == {"d": None, "empty": None, "a": b"1", "d/b": b"2" * 3000}


async def test_members_without_a_common_top_are_taken_as_they_are():
    stream = entry("a", b"1") + entry("d", kind=tarfile.DIRTYPE) + entry("d/b", b"2") + END

    assert await unpack(stream) == {"a": b"1", "d": None, "d/b": b"2"}


async def test_what_lies_outside_the_top_that_came_first_is_refused():
    stream = entry("book", kind=tarfile.DIRTYPE) + entry("other/a", b"1") + END

    with pytest.raises(UnsupportedMember, match="outside"):
        await unpack(stream)


async def test_a_part_of_the_book_that_came_first_is_told_how_to_send_the_whole(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "z").write_bytes(b"1")
    stream = subprocess.run(["tar", "-c", "d", "z"], cwd=tmp_path, check=True, capture_output=True).stdout

    with pytest.raises(UnsupportedMember) as refused:
        await unpack(stream)

    assert "'z' lies outside 'd/'" in refused.value.message
    assert "tar -C book -c ." in refused.value.remedy


@pytest.mark.parametrize("name", ["data", "data/other/a", "data/book2/a"])
async def test_what_lies_beside_a_deep_top_is_refused(name):
    with pytest.raises(UnsupportedMember, match="outside"):
        await unpack(entry("data/book", kind=tarfile.DIRTYPE) + entry(name, b"1") + END)


async def test_an_empty_book_is_a_stream_with_the_top_alone():
    assert await unpack(entry("./", kind=tarfile.DIRTYPE) + END) == {}


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../a", "a/../../b", "a/./b", "a//b", "", "..", "a/..", "./../a", "a\nb", "\x01", "x" * 300],
)
async def test_names_that_escape_or_are_no_names_are_refused(name):
    with pytest.raises(UnsupportedMember):
        await unpack(entry("ok", b"1") + entry(name, b"1", form=tarfile.GNU_FORMAT) + END)


async def test_a_name_that_is_not_utf_8_is_refused():
    with pytest.raises(UnsupportedMember, match="UTF-8"):
        await unpack(entry("\udcff", b"1", form=tarfile.GNU_FORMAT) + END)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "FIFO"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
        (b"V", "volume label"),
        (b"M", "another volume"),
        (b"z", "unknown type"),
    ],
)
async def test_links_devices_and_the_rest_are_refused(kind, what):
    block = resealed(entry("a", linkname="/etc/passwd"), 156, kind)

    with pytest.raises(UnsupportedMember, match=what):
        await unpack(block + END)


async def test_a_long_link_name_is_refused():
    stream = entry("a", kind=tarfile.SYMTYPE, linkname="x" * 300, form=tarfile.GNU_FORMAT) + END

    with pytest.raises(UnsupportedMember):
        await unpack(stream)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("d/x", "./d/x")])
async def test_a_name_comes_once_and_a_file_is_no_directory(names):
    with pytest.raises(UnsupportedMember):
        await unpack(b"".join(entry(name, b"1") for name in names) + END)


async def test_a_directory_comes_once():
    directory = entry("a/d", kind=tarfile.DIRTYPE)

    with pytest.raises(UnsupportedMember, match="twice"):
        await unpack(directory + directory + END)


async def test_a_directory_may_follow_what_lies_in_it():
    assert await unpack(entry("d/a", b"1") + entry("d", kind=tarfile.DIRTYPE) + END) == {"d/a": b"1", "d": None}


def pax(records: dict[str, str], *, kind: bytes = tarfile.XHDTYPE) -> bytes:
    body = b""
    for key, value in records.items():
        rest = f" {key}={value}\n".encode()
        length = len(rest) + len(str(len(rest) + 2))
        body += str(length).encode() + rest
    return entry("pax", body, kind=kind)


@pytest.mark.parametrize(
    "records",
    [
        {"path": "/etc/passwd"},
        {"path": "../up"},
        {"path": "a/../../up"},
        {"linkpath": "/etc/passwd"},
        {"size": "3"},
        {"size": "0"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
        {"GNU.sparse.name": "other"},
        {"hdrcharset": "BINARY"},
    ],
    ids=str,
)
async def test_extended_headers_that_play_tricks_are_refused(records):
    with pytest.raises(UnsupportedMember):
        await unpack(pax(records) + entry("a", b"12345") + END)


async def test_a_negative_size_in_an_extended_header_is_refused():
    with pytest.raises(BadRequest):
        await unpack(pax({"size": "-5"}) + entry("a", b"12345") + END)


async def test_an_extended_header_may_name_times_and_attributes():
    stream = pax({"mtime": "1.5", "SCHILY.xattr.user.x": "1", "path": "other"}) + entry("a", b"1") + END

    assert await unpack(stream) == {"other": b"1"}


@pytest.mark.parametrize("records", [{"path": "a"}, {"size": "5"}], ids=str)
async def test_a_global_header_does_not_rename_or_resize_every_entry(records):
    with pytest.raises(UnsupportedMember, match="global"):
        await unpack(pax(records, kind=tarfile.XGLTYPE) + entry("b", b"12345") + END)


async def test_two_long_names_for_one_entry_are_refused():
    long = entry("././@LongLink", b"first\0", kind=tarfile.GNUTYPE_LONGNAME)

    with pytest.raises(UnsupportedMember):
        await unpack(long + pax({"path": "second"}) + entry("a", b"1") + END)


async def test_an_endless_extended_header_is_refused_before_it_is_read():
    block = resealed(entry("pax", kind=tarfile.XHDTYPE), 124, b"77777777777\0")

    with pytest.raises(UnsupportedMember, match="extensions"):
        await unpack(block + END)


@pytest.mark.parametrize(
    "size", [b"\xff" * 12, b"-0000000001\0", b"\x80" + b"\xff" * 11, b"0000000000x\0", b"\0" * 12], ids=repr
)
async def test_negative_and_impossible_sizes_are_refused(size):
    with pytest.raises(LibrarianError):
        await unpack(resealed(entry("a", b"12345"), 124, size) + END)


async def test_a_huge_size_is_refused_before_anything_is_read():
    block = resealed(entry("a"), 124, b"\x80" + (2**62).to_bytes(11, "big"))

    with pytest.raises(TooLarge):
        await unpack(block, limit=2**40)


async def test_a_size_beyond_eight_gibibytes_may_come_in_binary():
    size = 9 * 1024**3
    block = resealed(entry("a"), 124, b"\x80" + size.to_bytes(11, "big"))

    with pytest.raises(BadRequest, match="too soon"):
        await unpack(block, limit=size)


async def test_more_bytes_than_promised_are_refused():
    with pytest.raises(TooLarge):
        await unpack(entry("a", b"12345") + entry("b", b"67890") + END, limit=9)


async def test_exactly_the_promised_bytes_are_taken():
    assert await unpack(entry("a", b"12345") + entry("b", b"67890") + END, limit=10)


async def test_a_directory_with_bytes_is_refused():
    with pytest.raises(UnsupportedMember):
        await unpack(entry("d", b"12345", kind=tarfile.DIRTYPE) + END)


async def test_a_stream_cut_off_anywhere_is_refused():
    stream = entry("a", b"1" * 700) + entry("b", b"2") + END

    for end in range(0, len(stream), 256):
        with pytest.raises(BadRequest):
            await unpack(stream[:end])


@pytest.mark.parametrize("garbage", [b"x", bytes(600) + b"x", entry("late", b"1") + END])
async def test_bytes_after_the_end_are_refused(garbage):
    with pytest.raises(BadRequest, match="after its end"):
        await unpack(entry("a", b"1") + END + garbage)


async def test_padding_after_the_end_is_normal():
    assert await unpack(entry("a", b"1") + END + bytes(9216)) == {"a": b"1"}


async def test_a_single_block_of_zeros_is_no_end():
    with pytest.raises(BadRequest):
        await unpack(entry("a", b"1") + bytes(512) + entry("b", b"1") + END)


async def test_a_damaged_header_is_refused():
    stream = bytearray(entry("a", b"1") + END)
    stream[3] ^= 1

    with pytest.raises(BadRequest, match="checksum"):
        await unpack(bytes(stream))


@pytest.mark.parametrize("stream", [b"", b"\x1f\x8b" + bytes(2000), b"{}" * 800, random.Random(1).randbytes(4096)])
async def test_what_is_no_tar_is_refused(stream):
    with pytest.raises(BadRequest):
        await unpack(stream)


@given(st.binary(max_size=3000), st.integers(0, 4000))
async def test_no_bytes_do_anything_but_unpack_or_be_refused(noise, at):
    stream = bytearray(entry("a", b"1" * 700) + pax({"path": "c"}) + entry("b", b"2") + END)
    stream[at : at + len(noise)] = noise

    try:
        members = await unpack(bytes(stream), limit=10_000)
    except LibrarianError:
        return
    assert all(not name.startswith("/") and ".." not in name.split("/") for name in members)


def test_python_agrees_about_what_the_streams_hold():
    stream = entry("a", b"1" * 700) + pax({"path": "c"}) + entry("b", b"2") + END

    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        assert archive.getnames() == ["a", "c"]
