"""Openings: which of the uploads that are asked for may be opened. No input, no output: obstacles in, answers out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from librarian.catalog.records import Incoming
from librarian.errors import BadChecksum, LibrarianError, NameBusy, NameHeld, NameNested
from librarian.states import Arrival, Kind
from librarian.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian import room
    from librarian.catalog.obstacles import Obstacle
    from librarian.catalog.records import Account, File
    from librarian.checksum import Checksum
    from librarian.names import FileName


@dataclass(frozen=True, kw_only=True)
class UploadRequest:
    """One file that somebody wants to upload."""

    name: FileName
    size: int
    kind: Kind = Kind.FILE
    checksum: Checksum | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """A request that may be opened, and where its bytes go."""

    request: UploadRequest
    allotment: room.Allotment


Sorted = Place | Incoming | LibrarianError


async def sort_out(
    account: Account, requests: Sequence[UploadRequest], obstacles: dict[FileName, Obstacle], ledger: room.Ledger
) -> list[Sorted]:
    """What to do about each request: open it, answer with the upload under way, or refuse.

    A request that equals one before it gets the very same place.
    """
    siblings = _Siblings()

    def sort(request: UploadRequest) -> Sorted:
        try:
            return _sort_one(account, request, obstacles.get(request.name), siblings, ledger)
        except LibrarianError as error:
            return error

    return await in_turns(sort, requests)


def _sort_one(
    account: Account, request: UploadRequest, obstacle: Obstacle | None, siblings: _Siblings, ledger: room.Ledger
) -> Place | Incoming:
    check_kind(request.kind, request.checksum)
    if obstacle is not None:
        arriving = _clear_way(account, request, obstacle)
        if arriving is not None:
            return arriving
    twin = siblings.find(request)
    if twin is not None:
        return twin
    lost = obstacle.file if obstacle is not None else None
    # What comes back must be what was lost, whoever brings it: its checksum is the one we remember.
    wanted = request if lost is None else replace(request, checksum=lost.checksum)
    place = Place(request=wanted, allotment=ledger.place(request.size))
    siblings.add(place)
    return place


class _Siblings:
    """The names that were accepted earlier in the same request."""

    def __init__(self) -> None:
        self._accepted: dict[str, Place] = {}
        self._above: set[str] = set()

    def find(self, request: UploadRequest) -> Place | None:
        """The place of an equal request; raises NameBusy or NameNested for one that contradicts another."""
        name = request.name
        twin = self._accepted.get(name)
        if twin is not None:
            if (twin.request.size, twin.request.kind) == (request.size, request.kind):
                return twin
            raise NameBusy(f"the request names {name!r} twice, with different sizes", remedy="Send each name once.")
        enclosing = next((above for above in name.ancestors if above in self._accepted), None)
        if enclosing is not None or name in self._above:
            raise _nested(name, enclosing or "another name of the same request")
        return None

    def add(self, place: Place) -> None:
        self._accepted[place.request.name] = place
        self._above.update(place.request.name.ancestors)


def _nested(name: FileName, other: str) -> NameNested:
    return NameNested(
        f"{name!r} lies inside or around {other!r}",
        remedy="A name may not lie inside another held or arriving name; choose another.",
        details={"name": name, "other": other},
    )


def _clear_way(account: Account, request: UploadRequest, obstacle: Obstacle) -> Incoming | None:
    """The upload that is under way already, or None when nothing stands in the way.

    A name whose every copy was lost (nothing present or suspect here, nothing at a peer) may arrive again, with
    the kind, size and checksum that its row has. Any other name that has a row is held.

    Raises
    ------
    NameNested, NameHeld, NameBusy
    """
    name = request.name
    other = obstacle.nested_in or obstacle.encloses
    if other is not None:
        raise _nested(name, other)
    file = obstacle.file
    if file is not None and (obstacle.is_somewhere or not _may_replace(file, request)):
        raise NameHeld(
            f"{name!r} is held: {file.kind}, {file.size:,} bytes, {file.checksum}",
            remedy="Compare the checksum with that of your source: if it is equal, there is nothing to upload.",
            details={"name": name, "kind": file.kind, "size": file.size, "checksum": file.checksum},
        )
    arriving = obstacle.arriving
    if arriving is None:
        return None
    is_same = (arriving.account, arriving.size, arriving.kind) == (account.name, request.size, request.kind)
    if arriving.arrival is Arrival.UPLOAD and is_same and _may_be_equal(arriving.checksum, request.checksum):
        return arriving
    raise NameBusy(
        f"another arrival of {name!r} is under way",
        remedy="Wait until it has ended, or choose another name.",
        details={"name": name},
    )


def _may_replace(file: File, request: UploadRequest) -> bool:
    is_alike = (file.kind, file.size) == (request.kind, request.size)
    return is_alike and request.checksum in (None, file.checksum)


def _may_be_equal(known: Checksum | None, given: Checksum | None) -> bool:
    return known is None or given is None or known == given or known.algorithm != given.algorithm


def check_kind(kind: Kind, checksum: Checksum | None) -> None:
    """Raise BadChecksum when *checksum* cannot belong to a payload of *kind*."""
    if checksum is not None and checksum.is_book != (kind is Kind.BOOK):
        raise BadChecksum(
            f"{checksum} cannot be the checksum of a {kind}",
            remedy="A book's checksum starts with 'book1-', a file's does not.",
        )
