"""Checksums of files and books: their types, the book digest, listings, and reading payloads from disk.

What is covered, test vectors and a recipe for the shell: docs/explanation/checksums.md. Every worker process of the
pool imports this module: it stays light.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self

import blake3
import xxhash

from librarian.errors import (
    BadChecksum,
    BadName,
    IntegrityError,
    LibrarianError,
    NotFound,
    SourceChanged,
    Unavailable,
    UnsupportedMember,
)
from librarian.names import MemberPath
from librarian.states import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

#: Prefix of a book's checksum; the number is the version of the book digest.
BOOK_PREFIX: Final = "book1-"
#: Bytes per read: large enough for a striped file system, small enough to stay in a core's cache.
BUFFER_BYTES: Final = 1024 * 1024
#: Enough for a small payload; a larger buffer costs page faults before the first byte is read.
_SMALL_BUFFER_BYTES: Final = 64 * 1024
#: zlib's fastest: digests do not compress below half, and names do at any level.
_PACK_LEVEL: Final = 1
_HEX_DIGITS: Final = frozenset("0123456789abcdef")

# O_NONBLOCK: a FIFO that took the place of a file since it was looked at must not hold the reader for ever.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_DIRECTORY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY


class Algorithm(StrEnum):
    """How bytes are hashed; XXH3 (the 128-bit form) is what librarian uses when nobody asks for another."""

    XXH3 = "xxh3"
    BLAKE3 = "blake3"
    SHA256 = "sha256"
    MD5 = "md5"


#: Hexadecimal digits of a digest.
HEX_LENGTH: Final = {Algorithm.XXH3: 32, Algorithm.BLAKE3: 64, Algorithm.SHA256: 64, Algorithm.MD5: 32}


class Checksum(str):
    """A checksum: ``xxh3:<hex>`` of a file, ``book1-xxh3:<hex>`` of a book; lowercase."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Parse *text*; raises BadChecksum for another form, an unknown algorithm or a digest of the wrong length."""
        if isinstance(text, cls):
            return text
        label, _, digest = str(text).removeprefix(BOOK_PREFIX).partition(":")
        if label not in HEX_LENGTH:
            raise BadChecksum(
                f"{text!r:.120} does not name a checksum algorithm",
                remedy=f"Write '<algorithm>:<hex>' or 'book1-<algorithm>:<hex>' with one of {', '.join(Algorithm)}.",
            )
        expected = HEX_LENGTH[Algorithm(label)]
        if len(digest) != expected or not _HEX_DIGITS.issuperset(digest):
            raise BadChecksum(
                f"{text!r:.120} does not hold a {label} digest",
                remedy=f"A {label} digest is {expected} lowercase hexadecimal digits.",
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, algorithm: Algorithm, hex: str, *, is_book: bool = False) -> Self:  # noqa: A002 - what it is
        """The checksum with the digest *hex*; raises BadChecksum as parsing does."""
        return cls(f"{BOOK_PREFIX if is_book else ''}{algorithm}:{hex}")

    @classmethod
    def trusted(cls, text: str) -> Self:
        """Take a checksum that was parsed before (read from the catalog) without looking again."""
        return str.__new__(cls, text)

    @property
    def algorithm(self) -> Algorithm:
        """How the bytes were hashed."""
        return Algorithm(self.removeprefix(BOOK_PREFIX).partition(":")[0])

    @property
    def is_book(self) -> bool:
        """Whether it is a digest over the members of a book."""
        return self.startswith(BOOK_PREFIX)

    @property
    def hex(self) -> str:
        """The digest alone, in lowercase hexadecimal digits."""
        return self.partition(":")[2]


class _Hash(Protocol):
    def update(self, block: bytes | bytearray | memoryview, /) -> object: ...
    def hexdigest(self) -> str: ...


_HASHES: Final[dict[Algorithm, Callable[[], _Hash]]] = {
    Algorithm.XXH3: xxhash.xxh3_128,
    Algorithm.BLAKE3: blake3.blake3,
    Algorithm.SHA256: hashlib.sha256,
    Algorithm.MD5: partial(hashlib.md5, usedforsecurity=False),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberDigest:
    """One member of a book: its size in bytes and its digest, or ``hex`` None for an empty directory."""

    path: MemberPath
    size: int
    hex: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What reading a payload found: size in bytes (a book's is the sum of its members'), checksum, members.

    ``members`` is empty for a file, and stands in the order of the book digest's lines for a book.
    """

    kind: Kind
    size: int
    checksum: Checksum
    members: tuple[MemberDigest, ...] = ()


class Hasher:
    """An incremental hash: ``update`` with any bytes-like object, then ``hexdigest``."""

    __slots__ = ("hexdigest", "update")

    def __init__(self, algorithm: Algorithm) -> None:
        inner = _HASHES[algorithm]()
        self.update, self.hexdigest = inner.update, inner.hexdigest


def member_line(member: MemberDigest) -> bytes:
    """The line of the book digest that speaks of *member*."""
    if member.hex is None:
        return f"- 0 {member.path}/\n".encode()
    return f"{member.hex} {member.size} {member.path}\n".encode()


def book_checksum(members: Iterable[MemberDigest], algorithm: Algorithm) -> Checksum:
    """The checksum of a book: a digest over its members' digests, sizes (bytes) and names.

    Order of *members* does not matter; the lines are sorted whole, by bytes. Modes and times are not covered.

    Source: docs/explanation/checksums.md, "Book digest, version 1".
    """
    return lines_checksum(sorted(map(member_line, members)), algorithm)


def lines_checksum(lines: Iterable[bytes], algorithm: Algorithm) -> Checksum:
    """The checksum of the book whose sorted *lines* these are, each with its newline."""
    hasher = Hasher(algorithm)
    hasher.update(b"".join(lines))
    return Checksum.trusted(f"{BOOK_PREFIX}{algorithm}:{hasher.hexdigest()}")


def measured_book(members: Iterable[MemberDigest], algorithm: Algorithm) -> Measured:
    """What measuring a book of *members* finds, members put into the order of the digest's lines."""
    ordered = sorted(((member_line(member), member) for member in members), key=lambda pair: pair[0])
    return Measured(
        kind=Kind.BOOK,
        size=sum(member.size for _, member in ordered),
        checksum=lines_checksum((line for line, _ in ordered), algorithm),
        members=tuple(member for _, member in ordered),
    )


def pack_members(members: Iterable[MemberDigest]) -> bytes:
    """The listing of a book for the catalog: the digest's sorted lines, compressed by zlib."""
    return zlib.compress(b"".join(sorted(map(member_line, members))), _PACK_LEVEL)


def unpack_members(blob: bytes) -> tuple[MemberDigest, ...]:
    """The members in a listing made by ``pack_members``, in the order of its lines; else raises IntegrityError."""
    try:
        return parse_lines(zlib.decompress(blob))
    except (zlib.error, ValueError) as error:
        raise IntegrityError(f"a listing is damaged: {error}", remedy="Measure the book again.") from error


def parse_lines(text: bytes) -> tuple[MemberDigest, ...]:
    """The members that the digest's lines *text* speak of; raises ValueError when they are no such lines."""
    # Only "\n" ends a line: str.splitlines() would also split names at U+2028.
    return tuple(_parse_line(line) for line in text.decode().split("\n") if line)


def _parse_line(line: str) -> MemberDigest:
    digest, size, path = line.split(" ", 2)
    if digest == "-":
        return MemberDigest(path=str.__new__(MemberPath, path.removesuffix("/")), size=0, hex=None)
    return MemberDigest(path=str.__new__(MemberPath, path), size=int(size), hex=digest)


class Seen(NamedTuple):
    """A member as a walk met it (FAT gives it new inode numbers); the path of an empty directory ends in a slash."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> Self:
        """What a walk says of the regular file *path*."""
        return cls(path, status.st_size, status.st_mtime_ns)


def measure_blocking(path: Path, algorithm: Algorithm, on_bytes: Callable[[int], None] | None = None) -> Measured:
    """Read the payload at *path* and measure it; blocks, so it belongs into a thread or a process.

    *on_bytes* hears of every further number of bytes that was read; what it raises ends the measurement.

    Raises
    ------
    NotFound, Unavailable
        Nothing stands at *path*; the file system refused to read.
    UnsupportedMember
        A symlink, device, socket or FIFO, or a name that is not UTF-8, has control characters or is too long.
    SourceChanged
        A file changed, vanished or was replaced while the payload was read.
    """
    reader = Reader(algorithm, on_bytes)
    status = look_at(path)
    if stat.S_ISREG(status.st_mode):
        return measured_file(status.st_size, algorithm, reader.digest(Seen.of(str(path), status), str(path)))
    root = open_book(path)
    try:
        return measured_book((reader.member(*met) for met in walk_book(root)), algorithm)
    finally:
        os.close(root)


def measured_file(size: int, algorithm: Algorithm, digest: str) -> Measured:
    """What measuring a file of *size* bytes found."""
    return Measured(kind=Kind.FILE, size=size, checksum=Checksum.trusted(f"{algorithm}:{digest}"))


def look_at(path: Path) -> os.stat_result:
    """The status of the regular file or directory at *path*; raises as ``measure_blocking`` does, follows nothing."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"nothing stands at '{path}'", remedy="Check the path.") from error
    except OSError as error:
        raise _refusal(error, str(path)) from error
    if not stat.S_ISDIR(status.st_mode):
        _expect_supported(str(path), status)
    return status


def open_book(path: Path) -> int:
    """A descriptor of the directory at *path*; the caller closes it. Raises as ``look_at`` does."""
    try:
        return os.open(path, _DIRECTORY)
    except OSError as error:
        raise _refusal(error, str(path)) from error


def walk_book(root: int) -> Generator[tuple[Seen, str, int], None, None]:
    """The regular files and empty directories below the open directory *root*; raises as ``measure_blocking`` does.

    One directory after another, in each by inode, which is close to where the bytes lie on a disk. With each come its
    name and the descriptor of its directory, which is open until the next is asked for.
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        directory = open_beneath(root, prefix)
        try:
            with os.scandir(directory) as scan:
                entries = sorted(scan, key=os.DirEntry.inode)
            if prefix and not entries:
                yield Seen(prefix, 0, 0), "", directory
            for entry in entries:
                path = MemberPath(prefix + entry.name)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/")
                    continue
                status = entry.stat(follow_symlinks=False)
                _expect_supported(path, status)
                yield Seen.of(path, status), entry.name, directory
        except BadName as error:
            raise UnsupportedMember(f"Cannot take the book: {error.message}", remedy=error.remedy) from error
        except OSError as error:
            raise _refusal(error, prefix) from error
        finally:
            os.close(directory)


def open_beneath(root: int, prefix: str) -> int:
    """A descriptor of the directory *prefix* (which ends in a slash, or is empty) below *root*; follows nothing."""
    # Part by part: O_NOFOLLOW looks at the last part only, and somebody may swap a directory for a link.
    directory = os.dup(root)
    try:
        for part in prefix.split("/")[:-1]:
            deeper = os.open(part, _DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = deeper
    except OSError as error:
        os.close(directory)
        raise _refusal(error, prefix) from error
    return directory


class Reader:
    """Hashes files one after another through one buffer."""

    def __init__(self, algorithm: Algorithm, on_bytes: Callable[[int], None] | None = None) -> None:
        self._algorithm = algorithm
        self._on_bytes = on_bytes or (lambda _: None)
        self._buffer = memoryview(bytearray(_SMALL_BUFFER_BYTES))

    def member(self, seen: Seen, name: str, directory: int) -> MemberDigest:
        """The digest of the member *name* of the open *directory*."""
        if seen.path.endswith("/"):
            return MemberDigest(path=str.__new__(MemberPath, seen.path[:-1]), size=0, hex=None)
        digest = self.digest(seen, name, directory)
        return MemberDigest(path=str.__new__(MemberPath, seen.path), size=seen.size, hex=digest)

    def digest(self, seen: Seen, name: str, directory: int | None = None) -> str:
        """The digest of the file *name* in the open *directory*, which is still as it was *seen*."""
        try:
            file = os.open(name, _READ, dir_fd=directory)
            try:
                _expect_unchanged(seen, file)
                digest = self._hash(file, seen.size)
                _expect_unchanged(seen, file)
                return digest
            finally:
                os.close(file)
        except OSError as error:
            raise _refusal(error, seen.path) from error

    def _hash(self, file: int, left: int) -> str:
        hasher = Hasher(self._algorithm)
        if left > len(self._buffer):
            self._buffer = memoryview(bytearray(BUFFER_BYTES))
        if left > BUFFER_BYTES:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        # Bytes beyond the size that was seen are the second look's business: the size then differs.
        while left > 0 and (count := os.readv(file, [self._buffer])):
            hasher.update(self._buffer[:count])
            left -= count
            self._on_bytes(count)
        return hasher.hexdigest()


def _expect_unchanged(seen: Seen, file: int) -> None:
    status = os.fstat(file)
    if (status.st_size, status.st_mtime_ns) != seen[1:] or not stat.S_ISREG(status.st_mode):
        raise SourceChanged(f"'{seen.path}' changed while it was read", remedy=_FINISH_WRITING)


_FINISH_WRITING: Final = "Finish writing before the payload is handed over, then try again."
_KINDS: Final = {"l": "a symbolic link", "c": "a device", "b": "a device", "p": "a FIFO", "s": "a socket"}


def _expect_supported(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnsupportedMember(
            f"'{path}' is {_KINDS.get(stat.filemode(status.st_mode)[0], 'neither a regular file nor a directory')}",
            remedy="A payload holds directories and regular files only; replace it by what it stands for.",
        )


def _refusal(error: OSError, path: str) -> LibrarianError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE):
        return SourceChanged(f"'{path}' vanished or was replaced while it was read", remedy=_FINISH_WRITING)
    return Unavailable(
        f"Cannot read '{path}': {error.strerror}",
        remedy="Make it readable for the account that librarian runs as, and look at the file system.",
    )
