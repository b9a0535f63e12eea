"""Room: what fits where. Capacity is sampled before the transaction that promises some of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from librarian.catalog.incoming_rows import Seen
from librarian.errors import LibrarianError, NoRoom
from librarian.names import TransferId

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from librarian.catalog.incoming_rows import Shelf
    from librarian.catalog.records import Incoming
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.site import Site
    from librarian.stores.base import Capacity, Store

#: Live transfers that are looked at in one trip.
PAGE: Final = 2000


@dataclass(frozen=True, kw_only=True)
class Room:
    """One store as it was sampled; ``capacity`` is None when it has a problem."""

    store: StoreName
    capacity: Capacity | None
    problem: str
    #: Bytes to reserve per byte that is to come: a foreign payload is copied before it is published.
    factor: int


@dataclass(frozen=True, kw_only=True)
class Allotment:
    """Where a payload may go, and the bytes reserved for it there."""

    store: StoreName
    reserved: int


async def sample(site: Site) -> list[Room]:
    """The capacity of every store of the settings as it is now; one that does not answer is one with a problem."""
    return await sample_of(site.stores.fixed())


async def sample_of(stores: Iterable[Store]) -> list[Room]:
    """The same of *stores*."""
    return list(await asyncio.gather(*(sample_one(store) for store in stores)))


async def sample_one(store: Store) -> Room:
    """The capacity of *store* as it is now."""
    problem, capacity = store.problem or "", None
    if not problem:
        try:
            capacity = await store.capacity()
        except LibrarianError as error:
            problem = error.message
    return Room(store=store.name, capacity=capacity, problem=problem, factor=factor_of(store))


def factor_of(store: Store) -> int:
    """How many bytes a byte on its way into *store* needs at most."""
    return 2 if store.takes_foreign_writes else 1


async def ledger(tx: Transaction, rooms: Sequence[Room], *, with_drives: bool = False) -> Ledger:
    """What may still be promised, within the transaction that promises it. One statement, or two with drives."""
    drives = await tx.incoming.shelves("drive") if with_drives else ()
    return Ledger(rooms, (*await tx.incoming.shelves(), *drives))


class Ledger:
    """Free bytes per open store, less what was promised; ``place`` promises more."""

    def __init__(self, rooms: Sequence[Room], shelves: Sequence[Shelf]) -> None:
        self._rooms = {room.store: room for room in rooms}
        self._shelves = {shelf.store: shelf for shelf in shelves}
        self._free: dict[StoreName, int] = {}
        for name, shelf in self._shelves.items():
            room = self._rooms.get(name)
            if shelf.is_open and room is not None and room.capacity is not None:
                self._free[name] = room.capacity.free_beside(shelf.held) - shelf.reserved

    def place(self, size: int) -> Allotment:
        """Choose the store with the most room for *size* bytes and count them as promised.

        Raises
        ------
        NoRoom
            No open store without a problem has so much left.
        """
        fitting = [(free, name) for name, free in self._free.items() if size * self._rooms[name].factor <= free]
        if not fitting:
            raise NoRoom(
                f"no open store has room for {size:,} bytes: {self._story() or 'there is no store'}",
                remedy="Free space, open another store, or wait until what is on its way has arrived.",
                details={"size": size, "free": {name: max(free, 0) for name, free in self._free.items()}},
            )
        _, name = max(fitting)
        reserved = size * self._rooms[name].factor
        self._free[name] -= reserved
        return Allotment(store=name, reserved=reserved)

    def left_on(self, store: StoreName) -> int:
        """Bytes that may still be promised there; none on a store that is closed or has a problem."""
        return max(self._free.get(store, 0), 0)

    def place_fullest(self, size: int, *, among: Collection[StoreName]) -> StoreName | None:
        """Of *among* the store with the least room that has *size* bytes left; None when none has."""
        fitting = [(free, name) for name, free in self._free.items() if name in among and size <= free]
        return min(fitting)[1] if fitting else None

    def promise(self, size: int, *, on: StoreName) -> None:
        """Count *size* bytes as promised there."""
        self._free[on] -= size

    def _story(self) -> str:
        shelved = [self._story_of(shelf) for shelf in self._shelves.values()]
        # A new store that could not be opened yet has no shelf.
        others = [room for name, room in self._rooms.items() if name not in self._shelves]
        return "; ".join([*shelved, *(f"{room.store} has a problem ({room.problem})" for room in others)])

    def _story_of(self, shelf: Shelf) -> str:
        room = self._rooms.get(shelf.store)
        if not shelf.is_open:
            return f"{shelf.store} is closed"
        if room is None:
            return f"{shelf.store} is not configured"
        if room.capacity is None:
            return f"{shelf.store} has a problem ({room.problem})"
        twice = ", and reserves each byte twice" if room.factor == 2 else ""
        return f"{shelf.store} has {max(self._free[shelf.store], 0):,} bytes left{twice}"


def is_short(answers: Iterable[object]) -> bool:
    """Whether something was refused for want of room."""
    return any(isinstance(answer, NoRoom) for answer in answers)


async def look_again(site: Site) -> bool:
    """Note what stands in staging by now, which frees its reservation; whether anything had changed."""
    changed = False
    after = TransferId(0)
    while True:
        async with site.catalog.read() as tx:
            live = await tx.claims.live(after=after, limit=PAGE)
        if not live:
            return changed
        after = live[-1].id
        seen = await look_at(site, live)
        async with site.catalog.begin() as tx:
            changed = bool(await tx.claims.saw(seen)) or changed


async def look_at(site: Site, transfers: Sequence[Incoming]) -> list[Seen]:
    """How much room *transfers* still need, by what stands in staging; those of stores with a problem are left out."""
    seen: list[Seen] = []
    for name, group in groupby(sorted(transfers, key=lambda each: each.store), key=lambda each: each.store):
        if name not in site.stores or (store := site.stores.lookup(name)).problem is not None:
            continue
        members = list(group)
        try:
            sizes = await store.staged_sizes([each.token for each in members])
        except LibrarianError:
            continue
        factor = factor_of(store)
        seen += [Seen(id=each.id, reserved=max(0, factor * each.size - sizes.get(each.token, 0))) for each in members]
    return seen
