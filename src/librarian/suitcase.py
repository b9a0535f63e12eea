"""A suitcase: a drive that a peer has sealed, as it is plugged in here. It is read, and never written.

It may be gone at any moment, or hang. All that touches it happens in threads of its own.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from librarian import guard, manifest
from librarian.errors import BadRequest, Conflict, StoreUnavailable
from librarian.stores import identity
from librarian.stores.lane import Lane, Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from librarian.manifest import ManifestFile
    from librarian.names import StoreName
    from librarian.stores.lane import Trip
    from librarian.wire.manifest import Entry, Head

T = TypeVar("T")

#: Until a drive counts as hung: a sleeping disk takes a while to wake.
ANSWER_TIMEOUT: Final = timedelta(seconds=30)
#: Entries that are judged at once, their bytes, and the members that they may have together.
PORTION_FILES: Final = 1024
PORTION_BYTES: Final = 16 * 1024**3
PORTION_MEMBERS: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What was found at a place: a whole manifest, on the drive that it was written for."""

    manifest: ManifestFile
    path: Path


class Suitcase:
    """One drive that is being read.

    *head* is what its manifest must begin with; None: whatever it is. *on_bytes* hears, in some thread, how many more
    bytes of its payloads were read.
    """

    def __init__(
        self, path: Path, *, name: StoreName, head: Head | None = None, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        self.path = path
        self.lane = Lane(name, ANSWER_TIMEOUT)
        self._name = name
        self._head = head
        self._manifest: ManifestFile | None = None
        self._on_bytes = on_bytes

    def close(self) -> None:
        """Let its threads go."""
        self.lane.close()

    def read(self, count: int) -> None:
        """See ``stores.parcels.Source``."""
        if self._on_bytes is not None:
            self._on_bytes(count)

    @contextmanager
    def stand(self) -> Iterator[int]:
        """See ``stores.parcels.Source``: it is opened anew each time, so that nothing keeps it from being unplugged."""
        head = self._head
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._away(error.strerror or str(error)) from error
        try:
            if head is not None and not _is_of(head, identity.read(fd, self._name)):
                raise self._away("what is there is not that drive")
            yield fd
        finally:
            os.close(fd)

    async def open(self) -> Contents:
        """Find a whole manifest there, and that the drive is the one which it was written for.

        Raises
        ------
        NotFound, ProtocolMismatch, ManifestDamaged, Conflict (another drive), StoreUnavailable
        """

        def look(trip: Trip) -> ManifestFile:
            with self.stand() as fd:
                found = identity.read(fd, self._name)
                with trip.barrier():
                    read = manifest.open_manifest(self.path / manifest.NAME)
            if not _is_of(read.head, found):
                raise _other_drive(read.head, found, self.path)
            return read

        return Contents(manifest=await self._ask(look), path=self.path)

    async def entries(self, *, after: int) -> tuple[Entry, ...]:
        """The next portion of entries after the first *after*; the manifest is checked when it is read first.

        Raises
        ------
        LibrarianError
            The drive is not there, or its manifest is not what it was.
        """
        if self._manifest is None:
            read = (await self.open()).manifest
            if self._head is not None and read.head != self._head:
                raise self._away("its manifest is not the one that is being received")
            self._manifest = read
        found = self._manifest

        def look(trip: Trip) -> tuple[Entry, ...]:
            with self.stand():
                return tuple(_portion(found.entries(after=after), trip))

        return await self._ask(look)

    def look_anew(self, path: Path) -> None:
        """It may have been away, and be at *path* now: nothing that was known of it counts."""
        self.path = path
        self._manifest = None

    async def _ask(self, look: Callable[[Trip], T]) -> T:
        guard.forbid_io_in_transaction("read a drive")
        try:
            if self.lane.silence is None:
                return await self.lane.run(look, pace=Pace.LONG)
            # It did not answer before: each try may cost a thread, and there are few.
            answer = await self.lane.run_probe(look)
        except OSError as error:
            raise self._away(error.strerror or str(error)) from error
        self.lane.forgive()
        return answer

    def _away(self, why: str) -> StoreUnavailable:
        if self._head is None:
            return StoreUnavailable(
                f"the drive cannot be read at '{self.path}': {why}",
                remedy="Mount it, and give the folder where it is mounted on the server's machine.",
            )
        return StoreUnavailable(
            f"the drive {self._name} cannot be read at '{self.path}': {why}",
            remedy="Plug it in, anywhere: receiving goes on by itself. A folder that was moved needs 'drive receive' "
            "anew.",
        )


def _portion(entries: Iterator[Entry], trip: Trip) -> Iterator[Entry]:
    size = members = 0
    for entry in islice(entries, PORTION_FILES):
        trip.beat()
        yield entry
        size += entry.size
        members += len(entry.members or ())
        if size >= PORTION_BYTES or members >= PORTION_MEMBERS:
            return


def _is_of(head: Head, found: identity.Identity | None) -> bool:
    return found is not None and (found.uuid, found.generation) == (head.store, head.generation)


def _other_drive(head: Head, found: identity.Identity | None, path: Path) -> Conflict:
    if found is None:
        what = "has no identity file"
    elif found.uuid != head.store:
        what = f"is {found.uuid}, and the manifest was written for {head.store}"
    else:
        what = f"was used again since: it is at generation {found.generation}, the manifest at {head.generation}"
    return Conflict(
        f"the drive at '{path}' {what}",
        remedy="Plug in the drive that was sealed: a copy of its files is not taken for it.",
    )


def require_signer(contents: Contents, *, pinned: str | None, trusted: str | None) -> None:
    """Refuse a manifest whose signer is neither the peer by its *pinned* key nor of the fingerprint *trusted*.

    Raises
    ------
    BadRequest
    """
    found, head = contents.manifest, contents.manifest.head
    if trusted is not None:
        if manifest.is_fingerprint(trusted, of=head.key):
            return
        raise BadRequest(
            f"the manifest is signed by {found.fingerprint}, not by {trusted}",
            remedy="Ask the sender for the fingerprint on its packing slip, by another way than the drive.",
        )
    if pinned is None:
        raise BadRequest(
            f"no key of a site called {head.sender.name!r} is known here; it is signed by {found.fingerprint}",
            remedy=f"Compare that with the packing slip, then add: --trust {found.fingerprint}",
        )
    if pinned != head.key:
        raise BadRequest(
            f"the manifest says that it is of {head.sender.name}, but is signed by {found.fingerprint}, "
            f"and {head.sender.name} signs with {manifest.fingerprint(pinned)}",
            remedy="Do not take this drive for theirs, unless they tell you that they have a new key.",
        )
