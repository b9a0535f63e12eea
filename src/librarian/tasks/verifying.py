"""Verifying: the act of ingest. Staged bytes are looked at, measured, compared and published; no database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from librarian.checksum import Measured, pack_members
from librarian.errors import (
    Bug,
    ChecksumMismatch,
    LibrarianError,
    NameTakenOnDisk,
    NotFound,
    SizeMismatch,
    SourceChanged,
    StoreUnavailable,
    Unavailable,
    UnsupportedMember,
    WrongState,
)
from librarian.states import Kind, VerifiedFrom
from librarian.stores.base import Publication, Publishing, Staged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from librarian.catalog.records import Incoming
    from librarian.checksum import Algorithm, Checksum
    from librarian.checksum_pool import ChecksumPool
    from librarian.names import Token
    from librarian.stores.base import Store

#: Listings of more members than this are packed in a thread: the loop is never held for long.
MEMBERS_ON_LOOP: Final = 500
#: How often a store is looked at while it is read.
LOOK_EVERY: Final = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Good:
    """The payload stands under its name, durable, and is what was promised."""

    transfer: Incoming
    measured: Measured
    verified_from: VerifiedFrom = VerifiedFrom.CACHE
    #: ``pack_members`` of a book's listing.
    listing: bytes | None = None
    #: An equal payload stood there already; what lies in staging is one too many.
    is_adopted: bool = False
    has_staging: bool = True
    #: Where the corrupt copy is kept whose place it took, as seen from staging; empty: there was none.
    set_aside: str = ""


@dataclass(frozen=True, kw_only=True)
class Bad:
    """The payload is not what was promised, or can never stand under its name."""

    transfer: Incoming
    error: LibrarianError
    #: A person must look at it.
    alerts: bool = False
    #: The payload is what was promised: only what stands under its name is in the way.
    is_hindered: bool = False


@dataclass(frozen=True, kw_only=True)
class Later:
    """Nothing is known against the payload, but its store cannot take it now."""

    transfer: Incoming
    error: LibrarianError


Outcome = Good | Bad | Later


async def verify(store: Store, pool: ChecksumPool, transfers: Sequence[Incoming]) -> list[Outcome]:
    """Verify and publish what is staged for *transfers* on *store*; may be repeated after a crash anywhere.

    Returns
    -------
    An outcome for each, in no order. A store that cannot be used now makes them all ``Later``.
    """
    work = _Verification(store, pool, transfers)
    try:
        await work.run()
    except Unavailable as error:
        work.put_off(error)
    return list(work.outcomes.values())


class _Verification:
    """One batch on its way from staging to the root."""

    def __init__(self, store: Store, pool: ChecksumPool, transfers: Sequence[Incoming]) -> None:
        self._store = store
        self._pool = pool
        self._transfers = {transfer.token: transfer for transfer in transfers}
        #: What was found equal to what was promised, in staging or (adopted) under the name.
        self._measured: dict[Token, Measured] = {}
        self._adopted: set[Token] = set()
        #: What was read from the medium.
        self._from_medium: set[Path] = set()
        self._read_from: dict[Token, VerifiedFrom] = {}
        self.outcomes: dict[Token, Outcome] = {}

    async def run(self) -> None:
        staged = await self._inspect()
        await self._measure(staged)
        # Where nothing is staged, an earlier pass may have published and died before it could say so.
        for transfer in await self._compare_standing([each for each in self._open() if each.token not in staged]):
            self._refuse(transfer, _nothing_came(transfer))
        await self._publish()
        await self._pack_listings()
        await self._clear()

    def put_off(self, error: LibrarianError) -> None:
        """Whatever has no outcome yet is tried again later, because of *error*."""
        for transfer in self._open():
            self.outcomes[transfer.token] = Later(transfer=transfer, error=error)

    def _open(self) -> list[Incoming]:
        return [transfer for token, transfer in self._transfers.items() if token not in self.outcomes]

    def _refuse(self, transfer: Incoming, error: LibrarianError, *, alerts: bool = False) -> None:
        if isinstance(error, Unavailable):
            self.outcomes[transfer.token] = Later(transfer=transfer, error=error)
        else:
            is_hindered = isinstance(error, NameTakenOnDisk) and transfer.token in self._measured
            self.outcomes[transfer.token] = Bad(transfer=transfer, error=error, alerts=alerts, is_hindered=is_hindered)

    async def _inspect(self) -> dict[Token, Staged]:
        transfers = self._open()
        staged: dict[Token, Staged] = {}
        for transfer, found in zip(
            transfers, await self._store.inspect([each.token for each in transfers]), strict=True
        ):
            if isinstance(found, Staged):
                staged[transfer.token] = found
            elif not isinstance(found, NotFound):
                self._refuse(transfer, found)
        for token, found in staged.items():
            transfer = self._transfers[token]
            refusal = _unlike(transfer, found.kind, found.size)
            if refusal is not None:
                self._refuse(transfer, refusal)
        return staged

    async def _measure(self, staged: dict[Token, Staged]) -> None:
        ours = [each for each in self._open() if each.token in staged and staged[each.token].is_ours]
        foreign = [each for each in self._open() if each.token in staged and not staged[each.token].is_ours]
        found = await self._read([(staged[each.token].path, _promised(each).algorithm) for each in ours])
        for transfer, measured in zip(ours, found, strict=True):
            self._note(transfer, staged[transfer.token].path)
            self._compare(transfer, measured)
        for transfer in foreign:
            try:
                self._compare(transfer, await self._store.take(transfer.token, _promised(transfer).algorithm))
            except (SourceChanged, UnsupportedMember, NotFound) as error:
                self._refuse(transfer, error)

    async def _read(self, items: Sequence[tuple[Path, Algorithm]]) -> list[Measured | LibrarianError]:
        """Measure *items*, from the medium where the store asks for that.

        Raises
        ------
        StoreUnavailable
            The store has a problem by now.
        """
        if self._store.verify_from is VerifiedFrom.CACHE or not items:
            return await self._read_by_workers(items)
        dropped = await self._store.let_go([path for path, _ in items])
        self._from_medium |= {path for (path, _), is_dropped in zip(items, dropped, strict=True) if is_dropped}
        found: dict[Path, Measured | LibrarianError] = {}
        for path, algorithm in items:
            if path not in self._from_medium and (measured := await self._read_directly(path, algorithm)) is not None:
                self._from_medium.add(path)
                found[path] = measured
        others = [item for item in items if item[0] not in found]
        found |= dict(zip((path for path, _ in others), await self._read_by_workers(others), strict=True))
        return [found[path] for path, _ in items]

    async def _read_directly(self, path: Path, algorithm: Algorithm) -> Measured | LibrarianError | None:
        try:
            return await self._store.measure_directly(path, algorithm)
        except StoreUnavailable:
            raise
        except LibrarianError as error:
            return error

    def _note(self, transfer: Incoming, path: Path) -> None:
        is_from_medium = path in self._from_medium
        self._read_from[transfer.token] = VerifiedFrom.MEDIUM if is_from_medium else VerifiedFrom.CACHE

    async def _read_by_workers(self, items: Sequence[tuple[Path, Algorithm]]) -> list[Measured | LibrarianError]:
        """Measure *items* for as long as their store is well: one that hangs must keep no worker from the others."""
        if not items:
            return []
        measuring = asyncio.create_task(self._pool.measure_many(items), name=f"measure on {self._store.name}")
        try:
            while not measuring.done():
                await asyncio.wait([measuring], timeout=LOOK_EVERY.total_seconds())
                if not measuring.done() and self._store.problem is not None:
                    raise StoreUnavailable(
                        f"store {self._store.name} has a problem while it is read: {self._store.problem}",
                        remedy="Look at its mount and at the machine behind it; it goes on by itself.",
                    )
            return measuring.result()
        finally:
            measuring.cancel()
            await asyncio.wait([measuring])

    def _compare(self, transfer: Incoming, measured: Measured | LibrarianError) -> None:
        if isinstance(measured, LibrarianError):
            self._refuse(transfer, measured)
            return
        refusal = _difference(transfer, measured)
        if refusal is not None:
            self._refuse(transfer, refusal)
        else:
            self._measured[transfer.token] = measured

    async def _compare_standing(self, transfers: Sequence[Incoming]) -> list[Incoming]:
        """Measure what stands under the names of *transfers*: equal is adopted, different is left as it is.

        Returns
        -------
        Those under whose name nothing stands.
        """
        found = await self._read([(self._store.path_of(each.name), _promised(each).algorithm) for each in transfers])
        absent: list[Incoming] = []
        for transfer, measured in zip(transfers, found, strict=True):
            if isinstance(measured, NotFound):
                absent.append(transfer)
            elif isinstance(measured, Unavailable):
                self._refuse(transfer, measured)
            elif isinstance(measured, LibrarianError) or _difference(transfer, measured) is not None:
                self._refuse(transfer, _taken(transfer, self._store, measured), alerts=True)
            else:
                self._measured[transfer.token] = measured
                self._adopted.add(transfer.token)
                self._note(transfer, self._store.path_of(transfer.name))
        return absent

    async def _publish(self) -> None:
        transfers = self._open()
        if not transfers:
            return
        taken: list[Incoming] = []
        # What is adopted goes along: the pass that renamed it may have died before its directory was durable.
        items = [Publication(token=each.token, name=each.name, kind=each.kind) for each in transfers]
        for transfer, published in zip(transfers, await self._store.publish(items), strict=True):
            match published:
                case Publishing.PUBLISHED if transfer.token not in self._adopted:
                    self._settle(transfer)
                case Publishing.NAME_TAKEN | Publishing.NAME_ONLY if transfer.token in self._adopted:
                    self._settle(transfer)
                case Publishing.NAME_TAKEN | Publishing.NAME_ONLY:
                    taken.append(transfer)
                case Publishing():
                    self._refuse(transfer, _restless(transfer))
                case WrongState():
                    self._refuse(transfer, _restless(transfer))
                case error:
                    self._refuse(transfer, error, alerts=not isinstance(error, Unavailable))
        for transfer in await self._compare_standing(taken):
            self._refuse(transfer, _restless(transfer))
        for transfer in self._open():
            self._settle(transfer)

    def _settle(self, transfer: Incoming) -> None:
        self.outcomes[transfer.token] = Good(
            transfer=transfer,
            measured=self._measured[transfer.token],
            verified_from=self._read_from.get(transfer.token, VerifiedFrom.CACHE),
            is_adopted=transfer.token in self._adopted,
        )

    async def _pack_listings(self) -> None:
        for token, outcome in self.outcomes.items():
            if not isinstance(outcome, Good) or outcome.transfer.kind is not Kind.BOOK:
                continue
            members = outcome.measured.members
            pack = partial(pack_members, members)
            packed = pack() if len(members) <= MEMBERS_ON_LOOP else await to_thread.run_sync(pack)
            self.outcomes[token] = replace(outcome, listing=packed)

    async def _clear(self) -> None:
        """Take away the empty directories of what was published; a crash before the record then finds the name only."""
        moved = [token for token, each in self.outcomes.items() if isinstance(each, Good) and not each.is_adopted]
        if not moved:
            return
        left = set(await self._store.clear(moved))
        for token in moved:
            outcome = self.outcomes[token]
            if isinstance(outcome, Good) and token not in left:
                self.outcomes[token] = replace(outcome, has_staging=False)


def _promised(transfer: Incoming) -> Checksum:
    if transfer.checksum is None:
        raise Bug(f"transfer {transfer.uuid} was staged without a checksum")
    return transfer.checksum


def _unlike(transfer: Incoming, kind: Kind, size: int) -> LibrarianError | None:
    """Why a payload of this kind and size cannot be what was promised, found without reading it."""
    if kind is not transfer.kind:
        return UnsupportedMember(
            f"{transfer.name!r} was announced as a {transfer.kind}, but a {kind} was brought",
            remedy="Open the upload again with the right kind.",
        )
    if size != transfer.size:
        return SizeMismatch(
            f"{transfer.name!r} was announced with {transfer.size:,} bytes, but {size:,} were brought",
            remedy="Look whether the source changed meanwhile, then upload it again.",
            details={"promised": transfer.size, "found": size},
        )
    return None


def _difference(transfer: Incoming, measured: Measured) -> LibrarianError | None:
    """Why *measured* is not what was promised."""
    refusal = _unlike(transfer, measured.kind, measured.size)
    if refusal is not None or measured.checksum == transfer.checksum:
        return refusal
    return ChecksumMismatch(
        f"{transfer.name!r} was announced as {transfer.checksum}, but {measured.checksum} was brought",
        remedy="Look whether the source changed meanwhile, then upload it again.",
        details={"promised": transfer.checksum, "found": measured.checksum},
    )


def _taken(transfer: Incoming, store: Store, found: Measured | LibrarianError) -> NameTakenOnDisk:
    what = f"{found.size:,} bytes, {found.checksum}" if isinstance(found, Measured) else found.message
    return NameTakenOnDisk(
        f"something else stands under {transfer.name!r} on store {store.name}, and no file is known for it: {what}",
        remedy=f"Look at {store.path_of(transfer.name)}; nothing was changed. Move it away, then upload again.",
    )


def _nothing_came(transfer: Incoming) -> SizeMismatch:
    return SizeMismatch(
        f"{transfer.name!r} was announced with {transfer.size:,} bytes, but nothing was brought",
        remedy="Bring the bytes before the commit.",
        details={"promised": transfer.size, "found": 0},
    )


def _restless(transfer: Incoming) -> StoreUnavailable:
    return StoreUnavailable(
        f"what stands for {transfer.name!r} changed between two looks at it",
        remedy="Leave staging and root alone; it is tried again.",
    )
