"""Manifests: writing what a drive carries so that anybody can check it, and reading it again.

Everything here blocks on the disk: call it in a thread.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from librarian import keys
from librarian.checksum import Algorithm, Hasher, MemberDigest
from librarian.errors import BadRequest, LibrarianError, ManifestDamaged, NotFound, ProtocolMismatch
from librarian.names import MemberPath
from librarian.quantities import counted
from librarian.wire.manifest import VERSION, Entry, Head, ManifestLine, Seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Line = TypeVar("Line", bound=ManifestLine)

#: Stands at the top of a sealed drive.
NAME: Final = ".librarian-manifest"
#: A listing of a million members has less.
_LINE_BYTES: Final = 2**28
_HEAD_BYTES: Final = 2**16
#: Lines between two places that are remembered for going on later.
_STRIDE: Final = 256
_WHAT: Final = "librarian-manifest"
#: Of a fingerprint: groups of four letters and digits, 120 bits in all.
_FINGERPRINT_BYTES: Final = 15
_GROUP: Final = 4


def fingerprint(key: str) -> str:
    """The public *key* (Base64) as people compare it: 'AB2C-…', six groups; raises BadRequest for what is no key."""
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError as error:
        raise BadRequest("that is no public key", remedy="Give it in Base64.") from error
    hasher = Hasher(Algorithm.BLAKE3)
    hasher.update(raw)
    text = base64.b32encode(bytes.fromhex(hasher.hexdigest())[:_FINGERPRINT_BYTES]).decode()
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def is_fingerprint(text: str, *, of: str) -> bool:
    """Whether *text* is the fingerprint of the public key *of*, however its groups are written."""
    return "".join(filter(str.isalnum, text)).upper() == fingerprint(of).replace("-", "")


def line(part: ManifestLine) -> bytes:
    """*part* as it stands in a manifest."""
    return part.model_dump_json(by_alias=True, exclude_none=isinstance(part, Entry)).encode() + b"\n"


def schema() -> str:
    """The JSON schema of a line, as docs/reference/manifest.schema.json."""
    described = TypeAdapter(Head | Entry | Seal).json_schema(by_alias=True, mode="validation")
    titled = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A line of a manifest", **described}
    return json.dumps(titled, indent=2) + "\n"


def seal(digest: str, key: keys.SigningKey) -> Seal:
    """The seal of a manifest whose lines have the BLAKE3 *digest*, by the owner of *key*."""
    return Seal(blake3=digest, signature=key.sign(_WHAT, str(VERSION), digest))


def members_of(entry: Entry) -> tuple[MemberDigest, ...]:
    """The members of the book that *entry* speaks of; none for a file."""
    return tuple(
        MemberDigest(path=MemberPath(path), size=size, hex=digest) for path, size, digest in entry.members or ()
    )


class ManifestWriter:
    """Writes the manifest of the drive whose top is open as *root_fd*: whole under its name, or not at all.

    The descriptor is the writer's from then on. Closing it without ``finish`` leaves nothing that anybody reads; a
    repeat begins anew.
    """

    def __init__(self, root_fd: int, head: Head) -> None:
        self._root = root_fd
        self._hasher = Hasher(Algorithm.BLAKE3)
        try:
            self._fresh = f"{NAME}.new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._fresh, flags, 0o644, dir_fd=self._root), "wb")
        except OSError:
            os.close(self._root)
            raise
        self.add(line(head))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the drive. A repeat does nothing."""
        if not self._file.closed:
            self._file.close()
            os.close(self._root)

    def add(self, lines: bytes) -> None:
        """Write more lines."""
        self._hasher.update(lines)
        self._file.write(lines)

    def finish(self, key: keys.SigningKey) -> Seal:
        """Seal the manifest with *key*, and let it appear under its name, durably."""
        made = seal(self._hasher.hexdigest(), key)
        self._file.write(line(made))
        self._file.flush()
        # Whatever the umask is: it is read by others.
        os.fchmod(self._file.fileno(), 0o644)
        # Content before name: otherwise a power cut can leave a part of it under the final name.
        os.fsync(self._file.fileno())
        os.rename(self._fresh, NAME, src_dir_fd=self._root, dst_dir_fd=self._root)
        os.fsync(self._root)
        return made


@dataclass(frozen=True, kw_only=True)
class ManifestFile:
    """A manifest that is whole and signed by the key in its head. Whose key that is, the caller must find out."""

    path: Path
    head: Head
    seal: Seal
    #: Size and time of change as they were when it was checked.
    seen: tuple[int, int] = field(repr=False)
    #: Where every 256th entry begins.
    places: array[int] = field(repr=False)
    #: The first and the last line as they stand there.
    ends: tuple[bytes, bytes] = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Of the key that signed it."""
        return fingerprint(self.head.key)

    def entries(self, *, after: int = 0) -> Iterator[Entry]:
        """The entries in their order, without the first *after*; raises what ``lines`` raises."""
        return (entry for _, entry in self.lines(after=after))

    def lines(self, *, after: int = 0) -> Iterator[tuple[bytes, Entry]]:
        """The entries as they stand there, and what they say.

        Raises
        ------
        ManifestDamaged
            A line is malformed, or the file is not the one that was checked.
        OSError
        """
        if after >= self.head.files:
            return
        with _open(self.path) as file:
            if _seen(file) != self.seen:
                raise ManifestDamaged(
                    f"the manifest '{self.path}' was changed since it was checked", remedy="Begin again."
                )
            file.seek(self.places[after // _STRIDE])
            for _ in range(after % _STRIDE):
                _next_line(file)
            for number in range(after, self.head.files):
                text = _next_line(file)
                yield text, _parsed(Entry, text, number=number + 2, path=self.path)


def head_of(path: Path) -> Head:
    """What the manifest at *path* says that it is; nothing is checked. Raises what ``open_manifest`` raises."""
    with _existing(path) as file:
        return _read_head(file, path)


def open_manifest(path: Path, *, beat: Callable[[], None] = lambda: None) -> ManifestFile:
    """Read the manifest at *path* once, and check that it is whole, unaltered and signed by the key in its head.

    *beat* is called whenever that gets on.

    Raises
    ------
    NotFound, ProtocolMismatch (another version of the format)
    ManifestDamaged
        Not a manifest, truncated, altered, or forged; ``details`` hold ``line`` and ``reason``.
    OSError
    """
    with _existing(path) as file:
        seen = _seen(file)
        head = _read_head(file, path)
        scan = _Scan()
        scan.run(file, beat)
    found = _read_seal(scan, head, path)
    if found.blake3 != scan.hexdigest():
        # Where no line is malformed, nothing tells which one it is.
        _find_malformed(path, scan.lines)
        raise _damaged(path, scan.lines, "altered", "the lines before it are not those that were sealed")
    if not keys.is_signed(found.signature, _WHAT, str(VERSION), found.blake3, public_key=head.key):
        raise _damaged(path, scan.lines, "forged", "the signature is not that of the key in its first line")
    if scan.lines - 2 != head.files:
        raise _damaged(path, 1, "malformed", f"it promises {counted(head.files)}, and {scan.lines - 2:,} are listed")
    ends = (scan.first, scan.last)
    return ManifestFile(path=path, head=head, seal=found, seen=seen, places=scan.places, ends=ends)


class _Scan:
    """One pass over the lines, the last of which is kept out of the digest."""

    def __init__(self) -> None:
        self._hasher = Hasher(Algorithm.BLAKE3)
        self.hexdigest: Callable[[], str] = self._hasher.hexdigest
        self.lines = 0
        self.first = self.last = b""
        self.places = array("Q")

    def run(self, file: BinaryIO, beat: Callable[[], None]) -> None:
        file.seek(0)
        offset = 0
        while text := _next_line(file):
            self._hasher.update(self.last)
            offset += len(self.last)
            if self.lines >= 1 and (self.lines - 1) % _STRIDE == 0:
                self.places.append(offset)
            self.last = text
            self.first = self.first or text
            self.lines += 1
            beat()


def _existing(path: Path) -> BinaryIO:
    try:
        return _open(path)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no manifest at '{path}'", remedy="Give the place where a sealed drive is mounted."
        ) from error


def _open(path: Path) -> BinaryIO:
    # Not blocked by a FIFO, nor led elsewhere: the drive may have been written by anybody.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb", 2**20)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise _damaged(path, 1, "malformed", "it is not a regular file")
    return file


def _seen(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _next_line(file: BinaryIO) -> bytes:
    return file.readline(_LINE_BYTES)


def _read_head(file: BinaryIO, path: Path) -> Head:
    text = file.readline(_HEAD_BYTES)
    if not text:
        raise _damaged(path, 1, "truncated", "it is empty")
    try:
        version = json.loads(text)["librarian_manifest"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, 1, "malformed", "it does not begin as a manifest does") from error
    if version != VERSION:
        raise ProtocolMismatch(
            f"the manifest '{path}' is written in version {version}, this librarian reads version {VERSION}",
            remedy="Use the librarian of the site that sealed the drive, or a newer one.",
        )
    return _parsed(Head, text, number=1, path=path)


def _read_seal(scan: _Scan, head: Head, path: Path) -> Seal:
    try:
        return Seal.model_validate_json(scan.last)
    except ValidationError as error:
        # A line that was cut short lists nothing; most often it is the seal.
        listed = max(0, scan.lines - 1 - (not scan.last.endswith(b"\n")))
        raise _damaged(
            path, scan.lines, "truncated", f"it ends without a seal after {listed:,} of {counted(head.files)}"
        ) from error


def _find_malformed(path: Path, lines: int) -> None:
    with _open(path) as file:
        _next_line(file)
        for number in range(2, lines):
            _parsed(Entry, _next_line(file), number=number, path=path)


def _parsed(kind: type[Line], text: bytes, *, number: int, path: Path) -> Line:
    try:
        return kind.model_validate_json(text)
    except (ValidationError, LibrarianError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.message
        raise _damaged(path, number, "malformed", said) from error


def _damaged(path: Path, number: int, reason: str, why: str) -> ManifestDamaged:
    return ManifestDamaged(
        f"the manifest '{path}' is {reason} (line {number:,}): {why}",
        remedy="Ask the sender to export it again, and compare; do not trust the drive until then.",
        details={"line": number, "reason": reason},
    )


if __name__ == "__main__":
    sys.stdout.write(schema())
