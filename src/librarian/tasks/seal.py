"""Seal: lists what a drive carries, in the catalog and then on the drive, signed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from anyio import to_thread

from librarian import drives, guard, pairing, sealing
from librarian.errors import LibrarianError, StoreUnavailable, WrongState
from librarian.manifest import ManifestWriter
from librarian.notifying import tell_of_drive
from librarian.quantities import counted
from librarian.states import DriveState, RuleWay
from librarian.stores import examining
from librarian.stores.drive import at_place
from librarian.tasks.base import Cadence, Task
from librarian.tasks.lanes import cancel_all
from librarian.wire.manifest import Head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.drives import DriveRecord
    from librarian.catalog.manifests import Carried, Consigned, ManifestRecord
    from librarian.catalog.transaction import Transaction
    from librarian.keys import SigningKey
    from librarian.names import FileId
    from librarian.site import Site
    from librarian.timing import Budget
    from librarian.wire.manifest import Seal as SealLine

log = logging.getLogger(__name__)

#: In one portion; the listings of books are what takes memory.
FILES: Final = 4000
MEMBERS: Final = 50_000


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Files of a drive that are to be listed next, as part *number*; none: all are listed, and it is to be written."""

    drive: DriveRecord
    manifest: ManifestRecord
    number: int
    carried: Sequence[Carried]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A portion's lines, compressed, and the transfers that they speak of."""

    lines: bytes
    consigned: tuple[Consigned, ...]


@dataclass(frozen=True, kw_only=True)
class Written:
    """The first and the last line of a manifest that stands on its drive."""

    head: Head
    seal: SealLine


class Seal(Task[Portion, Listed | Written]):
    """Seals drives that are to be sealed: one that is not plugged in, or cannot be written, holds up no other."""

    name: ClassVar[str] = "seal"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.cadence = Cadence(interval=timedelta(seconds=5))

    async def run_pass(self, budget: Budget) -> int:
        """Go on with each drive as far as it goes."""
        async with self.site.catalog.read() as tx:
            sealing_now = [drive for drive in await tx.drives.all() if drive.state is DriveState.SEALING]
        rounds = 0
        for drive in sealing_now:
            if not drive.is_plugged:
                continue
            try:
                rounds += await self._go_on(drive, budget)
            except LibrarianError as error:
                log.warning("Cannot seal drive %s: %s", drive.name, error, extra={"event": "sealing-waits"})
        return rounds

    async def _go_on(self, drive: DriveRecord, budget: Budget) -> int:
        await drives.look_at_round(drive)
        rounds = 0
        portion = await self._read(drive)
        while portion is not None and not budget.is_spent:
            # The next is read while this one is written down.
            reading = asyncio.create_task(self._read_after(portion), name=f"seal: read {drive.name}")
            try:
                result = await self.carry_out(portion)
                following = await reading
            finally:
                await cancel_all([reading])
            rounds += 1
            if isinstance(result, Written):
                guard.step("manifest recorded")
                await drives.rest(self.site, drive, because=drives.SEALED)
                # Looked at for the last time, before anybody is told to unplug it.
                self.site.bells.ring("plug")
                return rounds
            guard.step("portion listed")
            portion = following or await self._read(drive)
        return rounds

    async def _read(self, drive: DriveRecord) -> Portion | None:
        async with self.site.catalog.read() as tx:
            is_wanted = (await tx.drives.get(drive.name)).state is DriveState.SEALING
            return await self._next(tx, drive) if is_wanted else None

    async def _read_after(self, portion: Portion) -> Portion | None:
        """What follows once *portion* is written down; None where nothing is left to be listed."""
        if not portion.carried:
            return None
        async with self.site.catalog.read() as tx:
            carried = await self._page(tx, portion.drive, after=portion.carried[-1].file_id)
        return replace(portion, number=portion.number + 1, carried=carried) if carried else None

    async def _next(self, tx: Transaction, drive: DriveRecord) -> Portion | None:
        manifest = await tx.manifests.of(drive)
        if manifest is None or manifest.seal is not None:
            # It stands there, and is taken up by ``adopt``.
            return None
        if await tx.manifests.is_unsettled(drive):
            # Ingest ends what it has begun, and housekeeping clears up.
            self.site.bells.ring("housekeeping")
            return None
        place = await tx.manifests.place(manifest.id)
        carried = await self._page(tx, drive, after=place.after)
        return Portion(drive=drive, manifest=manifest, number=place.number, carried=carried)

    async def _page(self, tx: Transaction, drive: DriveRecord, *, after: FileId) -> tuple[Carried, ...]:
        return await tx.manifests.page(drive, after=after, files=FILES, members=MEMBERS)

    async def plan(self, tx: Transaction) -> Portion | None:
        """The next portion of a drive that is to be sealed."""
        for drive in await tx.drives.all():
            if drive.state is DriveState.SEALING and drive.is_plugged:
                return await self._next(tx, drive)
        return None

    async def act(self, plan: Portion) -> Listed | Written:
        """List the portion, or write the manifest onto the drive; its parts are read between the writes."""
        if plan.carried:
            lines, consigned = await to_thread.run_sync(sealing.listed, plan.carried)
            return Listed(lines=lines, consigned=consigned)
        return await self._write(plan.drive, plan.manifest)

    async def _write(self, drive: DriveRecord, manifest: ManifestRecord) -> Written:
        # From here on nothing else is written to it, generations least of all.
        await drives.rest(self.site, drive, because=drives.BEING_SEALED)
        root, key = Path(drive.path), await pairing.signing_key(self.site)
        draft = Head.model_validate_json(manifest.head)
        on_drive = partial(at_place, drive.name, what="write the manifest")

        def start() -> tuple[ManifestWriter, Head]:
            fd, known = examining.open_drive(root, drive.uuid)
            totals = {"generation": known.generation, "files": manifest.files, "bytes": manifest.bytes}
            head = draft.model_copy(update=totals)
            return ManifestWriter(fd, head), head

        writer, head = await on_drive(start)
        try:
            first = 0
            while parts := await self._parts(manifest, first):
                await on_drive(partial(_add, writer, parts))
                first += len(parts)
                guard.step("manifest half written")
            seal = await on_drive(partial(_finish, writer, head, root, key))
        finally:
            with contextlib.suppress(LibrarianError):
                await on_drive(writer.close)
        guard.step("manifest written")
        return Written(head=head, seal=seal)

    async def _parts(self, manifest: ManifestRecord, first: int) -> tuple[bytes, ...]:
        async with self.site.catalog.read() as tx:
            return await tx.manifests.parts(manifest.id, first=first, limit=sealing.PARTS)

    async def record(self, tx: Transaction, plan: Portion, result: Listed | Written) -> None:
        """Write the portion down; or that the drive is sealed.

        Raises WrongState where the drive was given up while the portion was listed: nobody would end its transfers.
        """
        if isinstance(result, Listed):
            if not await tx.drives.pin(plan.drive.id, DriveState.SEALING):
                raise WrongState(f"the drive '{plan.drive.name}' was given up meanwhile", remedy="See 'drive show'.")
            await tx.manifests.append(plan.manifest, number=plan.number, lines=result.lines, consigned=result.consigned)
            await self._unload(tx, plan)
            return
        head = result.head.model_dump_json(by_alias=True)
        await tx.manifests.finish(plan.manifest.id, head=head, seal=result.seal.model_dump_json())
        if await tx.drives.advance(plan.drive.id, to=DriveState.SEALED, who=plan.manifest.sealed_by):
            why = f"for {plan.manifest.peer}: {counted(result.head.files)}, {result.head.bytes:,} bytes"
            drive, who = plan.drive, plan.manifest.sealed_by
            await tell_of_drive(tx, drive.name, "sealed", round_=drive.round, who=who, why=why)

    async def _unload(self, tx: Transaction, plan: Portion) -> None:
        """What other peers are to get of it does not come to them on this drive."""
        others = [
            rule.id
            for rule in await tx.rules.in_force()
            if rule.way is RuleWay.CARRIED and rule.peer_id != plan.manifest.peer_id
        ]
        if others:
            await tx.loading.unload([each.file_id for each in plan.carried], rules=others)


def _add(writer: ManifestWriter, parts: Sequence[bytes]) -> None:
    for part in parts:
        writer.add(zlib.decompress(part))


def _finish(writer: ManifestWriter, head: Head, root: Path, key: SigningKey) -> SealLine:
    seal = writer.finish(key)
    claim = examining.claim_at(root)
    if claim is None or claim.identity.generation != head.generation:
        raise StoreUnavailable("the drive was stamped while it was sealed", remedy="It is sealed once more by itself.")
    return seal
