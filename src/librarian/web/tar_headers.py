"""Headers of tar streams: ustar, GNU and pax, as far as books need them. Bytes in, values out.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from librarian.errors import BadRequest, UnsupportedMember
from librarian.names import MEMBER_BYTES

BLOCK: Final = 512
ZEROS: Final = bytes(BLOCK)
#: A pax header or long name with more bytes is a trick: names end at 2,048.
MOST_EXTENSION: Final = 64 * 1024
#: From here on the size does not fit into the header, and a pax record has to say it.
BEYOND_OCTAL: Final = 8**11

_NUMBER: Final = re.compile(rb" *([0-7]{1,12})[ \0]*")
_PAX_RECORD: Final = re.compile(rb"([1-9][0-9]{0,5}) ([^=\n\0]{1,200})=")
_UTF8: Final = "ISO-IR 10646 2000 UTF-8"
_WHAT: Final = {
    b"1": "a hard link (send it with --hard-dereference)",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"S": "a sparse file (send it without --sparse)",
    b"D": "an incremental dump",
    b"M": "the rest of another volume",
    b"V": "a volume label",
    b"K": "a long link name",
}
_FILE_TYPES: Final = (b"0", b"\0", b"7")
_EXTENSION_TYPES: Final = (b"x", b"g", b"L")


@dataclass(frozen=True, kw_only=True)
class Header:
    """One entry: its name as sent, and how many bytes follow."""

    name: str
    size: int
    is_directory: bool


@dataclass(frozen=True, kw_only=True)
class RawHeader:
    """One block as it stands."""

    name: bytes
    size: int
    type: bytes

    @property
    def is_extension(self) -> bool:
        """It speaks about the entry that follows (or, ``g``, about all)."""
        return self.type in _EXTENSION_TYPES


def parse(block: bytes) -> RawHeader:
    """Read one header block.

    Raises
    ------
    BadRequest
        It is no tar header, or damaged.
    """
    if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
        raise _damaged("a header's checksum is wrong")
    magic = block[257:263]
    if magic not in (b"ustar\0", b"ustar ", bytes(6)):
        raise _damaged("a header's format is unknown")
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if magic == b"ustar\0" else b""
    return RawHeader(name=prefix + b"/" + name if prefix else name, size=_number(block[124:136]), type=block[156:157])


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        number = int.from_bytes(field[1:], "big")
        if number >= 2**63:
            raise _damaged("a size is impossible")
        return number
    matched = _NUMBER.fullmatch(field)
    if matched is None:
        raise _damaged("a number is negative or malformed")
    return int(matched[1], 8)


def _damaged(why: str) -> BadRequest:
    return BadRequest(f"the tar stream is damaged: {why}", remedy="Send what 'tar -c' writes, uncompressed and whole.")


class Extensions:
    """What pax headers and long names say about the next entry."""

    def __init__(self) -> None:
        self._path: bytes | None = None
        self._size: int | None = None
        self._seen: set[bytes] = set()

    @property
    def are_any(self) -> bool:
        """Whether an entry has to follow."""
        return bool(self._seen - {b"g"})

    def check(self, raw: RawHeader) -> int:
        """How many bytes of extension follow *raw*; raises when there are too many, or it comes twice."""
        if raw.size > MOST_EXTENSION:
            raise UnsupportedMember(f"an entry has {raw.size:,} bytes of extensions", remedy="Use plain tar.")
        if raw.type in self._seen and raw.type != b"g":
            raise UnsupportedMember("an entry has the same extension twice", remedy="Use plain tar.")
        self._seen.add(raw.type)
        return raw.size

    def add(self, raw: RawHeader, content: bytes) -> None:
        """Take up the *content* that follows *raw*."""
        if raw.type == b"L":
            self._set_path(content.rstrip(b"\0"))
            return
        records = _pax_records(content)
        for key, value in records.items():
            if key.startswith("GNU.sparse"):
                raise UnsupportedMember("an entry is a sparse file", remedy="Send it without --sparse.")
            if key == "linkpath":
                raise UnsupportedMember("an entry is a link", remedy="Books hold files and directories alone.")
            if key == "hdrcharset" and value.decode("ascii", "replace") != _UTF8:
                raise UnsupportedMember("names are not in UTF-8", remedy="Rename them.")
            if key in ("path", "size") and raw.type == b"g":
                raise UnsupportedMember(f"a global header sets the {key} of every entry", remedy="Use plain tar.")
        if "path" in records:
            self._set_path(records["path"])
        if "size" in records:
            self._size = _pax_size(records["size"])

    def _set_path(self, path: bytes) -> None:
        if self._path is not None:
            raise UnsupportedMember("an entry has two long names", remedy="Use plain tar.")
        if not path or len(path) > 2 * MEMBER_BYTES:
            raise UnsupportedMember(f"an entry's long name has {len(path):,} bytes", remedy="Use a shorter name.")
        self._path = path

    def apply(self, raw: RawHeader) -> Header:
        """The entry that *raw* and its extensions describe together.

        Raises
        ------
        UnsupportedMember
            It is neither a file nor a directory, its name is no UTF-8, or its sizes contradict each other.
        """
        name = _decode(raw.name if self._path is None else self._path)
        # Before POSIX a directory was a file whose name ended in a slash.
        is_directory = raw.type == b"5" or (raw.type in (b"0", b"\0") and name.endswith("/"))
        if not is_directory and raw.type not in _FILE_TYPES:
            raise UnsupportedMember(
                f"the entry {name!r} is {_WHAT.get(raw.type, f'of the unknown type {raw.type!r}')}",
                remedy="A book holds regular files and directories alone.",
            )
        size = raw.size
        if self._size is not None and self._size != size:
            # Two sizes are how one archive is made to look different to two programs.
            if self._size < BEYOND_OCTAL:
                raise UnsupportedMember(
                    f"the entry {name!r} has two sizes, {size:,} and {self._size:,}", remedy="Use plain tar."
                )
            size = self._size
        if is_directory and size:
            raise UnsupportedMember(f"the directory {name!r} has {size:,} bytes", remedy="Use plain tar.")
        return Header(name=name, size=size, is_directory=is_directory)


def _decode(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise UnsupportedMember(f"the entry {name!r:.200} is not named in UTF-8", remedy="Rename it.") from error


def _pax_size(value: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,19}", value) or int(value) >= 2**63:
        raise _damaged("a size is negative or malformed")
    return int(value)


def _pax_records(content: bytes) -> dict[str, bytes]:
    records: dict[str, bytes] = {}
    at = 0
    while at < len(content):
        matched = _PAX_RECORD.match(content, at)
        if matched is None:
            raise _damaged("an extended header is malformed")
        end = at + int(matched[1])
        if end > len(content) or end <= matched.end() - 1 or content[end - 1 : end] != b"\n":
            raise _damaged("an extended header has a wrong length")
        key = matched[2].decode("utf-8", "replace")
        if key in records:
            raise UnsupportedMember(f"an extended header says {key!r} twice", remedy="Use plain tar.")
        records[key] = content[matched.end() : end - 1]
        at = end
    return records
