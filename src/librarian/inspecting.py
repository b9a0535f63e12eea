"""Inspecting a sealed drive: reading everything on it from the medium, and comparing it with its manifest.

Needs nothing but the drive: no catalog, no settings, no network. Everything here blocks on the disk.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian import checksum, manifest
from librarian.checksum import Algorithm, Checksum, Hasher
from librarian.errors import LibrarianError
from librarian.stores import examining, parts
from librarian.stores.beside import Belongings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from librarian.manifest import ManifestFile
    from librarian.wire.manifest import Entry

_BUFFER_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """What is not as the manifest says: a file, or a member of a book."""

    name: str
    member: str | None
    reason: str


class Inspection:
    """Reads the drive at *root* and compares it with its manifest *found*.

    *on_bytes* and *on_file* hear how it gets on. A repeat begins anew.
    """

    def __init__(
        self, root: Path, found: ManifestFile, *, on_bytes: Callable[[int], None], on_file: Callable[[], None]
    ) -> None:
        self._root = root
        self._manifest = found
        self._on_bytes = on_bytes
        self._on_file = on_file
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._listed = Belongings()

    def flaws(self) -> Iterator[Flaw]:
        """Everything that is not as the manifest says, in its order; the rest is good.

        Raises
        ------
        OSError
            The place itself cannot be opened.
        ManifestDamaged
        """
        root = os.open(self._root, parts.DIRECTORY)
        try:
            for entry in self._manifest.entries():
                self._listed.add(entry.name)
                if entry.kind == "book":
                    yield from self._book(root, entry)
                elif reason := self._file(root, entry.name, entry.size, Checksum(entry.checksum)):
                    yield Flaw(name=entry.name, member=None, reason=reason)
                self._on_file()
        finally:
            os.close(root)

    def extras(self) -> Iterator[str]:
        """What stands beside what the manifest lists, once ``flaws`` has read that to its end; raises OSError.

        Members that a book should not have are flaws of it.
        """
        return self._listed.beside(self._root)

    def is_the_drive(self) -> bool:
        """Whether its identity is the one that was sealed: a copy, or a later round of it, has another generation."""
        claim, head = examining.claim_at(self._root), self._manifest.head
        return claim is not None and (claim.identity.uuid, claim.identity.generation) == (head.store, head.generation)

    def _book(self, root: int, entry: Entry) -> Iterator[Flaw]:
        expected, members = Checksum(entry.checksum), manifest.members_of(entry)
        if checksum.book_checksum(members, expected.algorithm) != expected:
            yield Flaw(name=entry.name, member=None, reason="its members in the manifest do not make up its checksum")
        try:
            top = parts.open_inside(entry.name, parts.DIRECTORY, at=root)
        except OSError as error:
            yield Flaw(name=entry.name, member=None, reason=_told(error))
            return
        try:
            for member in members:
                if member.hex is None:
                    reason = _no_directory(top, member.path)
                else:
                    told = Checksum.of(expected.algorithm, member.hex)
                    reason = self._file(top, member.path, member.size, told)
                if reason:
                    yield Flaw(name=entry.name, member=member.path, reason=reason)
            known = {f"{member.path}/" if member.hex is None else str(member.path) for member in members}
            for path in _others(top, known):
                yield Flaw(name=entry.name, member=path, reason="it is not in the manifest")
        finally:
            os.close(top)

    def _file(self, root: int, path: str, size: int, told: Checksum) -> str:
        """Why the file *path* is not what it should be; empty when it is."""
        try:
            file = parts.open_inside(path, parts.READ, at=root)
        except OSError as error:
            return _told(error)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                return "it is not a regular file"
            if status.st_size != size:
                return f"it has {status.st_size:,} bytes instead of {size:,}"
            digest = self._digest(file, told.algorithm)
        except OSError as error:
            return _told(error)
        finally:
            os.close(file)
        return "" if digest == told.hex else f"it has the {told.algorithm} digest {digest} instead of {told.hex}"

    def _digest(self, file: int, algorithm: Algorithm) -> str:
        # What this machine just wrote or read is to come from the medium all the same.
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        hasher = Hasher(algorithm)
        while count := os.readv(file, [self._buffer]):
            hasher.update(self._buffer[:count])
            self._on_bytes(count)
        return hasher.hexdigest()


def _no_directory(root: int, path: str) -> str:
    try:
        os.close(parts.open_inside(path, parts.DIRECTORY, at=root))
    except OSError as error:
        return _told(error)
    return ""


def _others(top: int, known: set[str]) -> Iterator[str]:
    try:
        for seen, _, _ in checksum.walk_book(top):
            if seen.path not in known:
                yield seen.path
    except LibrarianError as error:
        yield error.message


def _told(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a symbolic link"
    return "it is missing" if isinstance(error, FileNotFoundError) else f"it cannot be read: {error.strerror}"
