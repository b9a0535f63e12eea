"""LocalStore: a store in two directories of a POSIX file system."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from librarian import guard
from librarian.errors import LibrarianError, NotFound, RestoredCatalog, StoreUnavailable, UnsupportedMember
from librarian.stores import (
    base,
    bringing,
    copying,
    faults,
    ground,
    identity,
    lane,
    medium,
    opening,
    parts,
    places,
    pouring,
    publishing,
    quarantine,
    room,
    staging,
    writing,
)
from librarian.stores.lane import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from librarian.checksum import Algorithm, Measured
    from librarian.names import FileName, MemberPath, Token
    from librarian.stores.base import (
        BadCopy,
        Bringing,
        Capacity,
        Publication,
        Publishing,
        Staged,
        StoreSpec,
        Stray,
    )
    from librarian.stores.ground import Footing, Ground
    from librarian.stores.lane import Trip
    from librarian.stores.parcels import Poured, Pouring, Source

T = TypeVar("T")


def _open_published(here: Ground, name: FileName, member: MemberPath | None) -> int:
    """Open what is published, part by part, so that no link leads out of the root."""
    try:
        reading = parts.open_inside(name if member is None else f"{name}/{member}", parts.READ, at=here.root_fd)
    except FileNotFoundError as error:
        where = f"'{member}' in '{name}'" if member is not None else f"'{name}'"
        raise NotFound(f"{where} is not on store '{here.spec.name}'", remedy="Read it from another store.") from error
    if stat.S_ISREG(os.fstat(reading).st_mode):
        return reading
    os.close(reading)
    raise UnsupportedMember(f"'{member or name}' is not a regular file", remedy="Name a member of the book.")


class LocalStore(base.Store):
    """A store on a file system that is mounted here, with threads of its own.

    Parameters
    ----------
    spec: the store as it is configured.
    allow_noreplace: False leaves RENAME_NOREPLACE unused even where it works, as on file systems without it.
    """

    def __init__(self, spec: StoreSpec, *, allow_noreplace: bool = True) -> None:
        self.name = spec.name
        self.root = spec.root
        self.staging = spec.staging
        self.takes_foreign_writes = spec.takes_foreign_writes
        self.verify_from = spec.verify_from
        self._spec = spec
        self._allow_noreplace = allow_noreplace
        self._lane = lane.Lane(spec.name, spec.answer_timeout)
        self._footing: Footing | None = None
        self._trouble: str | None = "not opened yet"
        #: What ``open`` was last called with, for probes.
        self._expectation: tuple[str | None, int] | None = None

    @property
    def problem(self) -> str | None:
        """See ``Store.problem``."""
        return self._lane.silence or self._trouble

    async def open(self, *, expected_uuid: str | None, generation: int) -> str:
        """See ``Store.open``."""
        guard.forbid_io_in_transaction("open a store")
        self._expectation = expected_uuid, generation

        def work(_: Trip) -> Footing:
            return opening.open_store(
                self._spec,
                expected_uuid=expected_uuid,
                generation=generation,
                allow_noreplace=self._allow_noreplace,
            )

        try:
            footing = await self._lane.run_probe(work)
        except OSError as error:
            raise self._unavailable(error) from error
        except LibrarianError as refusal:
            self._trouble = refusal.message
            raise
        self._footing = footing
        self._trouble = None
        self._lane.forgive()
        self._expectation = footing.uuid, generation
        return footing.uuid

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        refusal = faults.refusal_of(error, store=self.name, what="open")
        self._trouble = refusal.message
        return StoreUnavailable(refusal.message, remedy=refusal.remedy, details=refusal.details)

    async def probe(self) -> str | None:
        """See ``Store.probe``."""
        guard.forbid_io_in_transaction("probe a store")
        if self._expectation is None:
            return self.problem
        expected_uuid, generation = self._expectation
        try:
            if self.problem is None:
                await self._run("probe", lambda here: None)
            else:
                await self.open(expected_uuid=expected_uuid, generation=generation)
        except RestoredCatalog:
            raise
        except LibrarianError:
            return self.problem
        return None

    async def close(self) -> None:
        """See ``Store.close``."""
        self._lane.close()
        self._trouble = "closed"

    async def _run(self, what: str, work: Callable[[Ground], T], *, pace: Pace = Pace.QUICK) -> T:
        """Do *work* in one of the store's threads; the store closes itself when it turns out to be gone."""
        guard.forbid_io_in_transaction(what)
        footing = self._require_footing()

        def ride(trip: Trip) -> T:
            with ground.stand(self._spec, footing, trip) as here:
                return work(here)

        return await self._ride(what, ride, pace=pace)

    async def _ride(self, what: str, ride: Callable[[Trip], T], *, pace: Pace) -> T:
        return await self._heed(what, self._lane.run(ride, pace=pace))

    async def _heed(self, what: str, riding: Awaitable[T]) -> T:
        try:
            return await riding
        except OSError as error:
            refusal = faults.refusal_of(error, store=self.name, what=what)
            if error.errno in faults.LOST:
                self._trouble = refusal.message
            raise refusal from error
        except ground.Vanished as refusal:
            self._trouble = refusal.message
            raise

    def _require_footing(self) -> Footing:
        if self._footing is not None and self.problem is None:
            return self._footing
        raise StoreUnavailable(
            f"store '{self.name}' is unavailable: {self.problem}",
            remedy="Put right what the message says; the store is taken back by itself.",
            details={"store": str(self.name)},
        )

    async def stamp(self, generation: int) -> None:
        """See ``Store.stamp``."""

        def work(here: Ground) -> None:
            found = identity.read(here.root_fd, self.name)
            known = replace(found or identity.Identity(uuid=here.footing.uuid, generation=0), generation=generation)
            if found != known:
                identity.write(here.root_fd, known)

        await self._run("stamp the identity", work)
        if self._footing is not None:
            self._expectation = self._footing.uuid, generation

    async def capacity(self) -> Capacity:
        """See ``Store.capacity``."""
        return await self._run("sample room", room.sample)

    def staging_path(self, token: Token) -> Path:
        """See ``Store.staging_path``."""
        return self.staging / token / places.PAYLOAD

    def path_of(self, name: FileName) -> Path:
        """See ``Store.path_of``."""
        return self.root / name

    async def stage(self, tokens: Sequence[Token]) -> None:
        """See ``Store.stage``."""
        await self._run("stage", lambda here: staging.make(here, tokens))

    async def inspect(self, tokens: Sequence[Token]) -> list[Staged | LibrarianError]:
        """See ``Store.inspect``."""
        return await self._run("inspect", lambda here: staging.inspect(here, tokens), pace=Pace.LONG)

    async def take(self, token: Token, algorithm: Algorithm) -> Measured:
        """See ``Store.take``."""
        return await self._run(f"take '{token}'", lambda here: copying.take(here, token, algorithm), pace=Pace.LONG)

    async def lend_root(self) -> int:
        """See ``Store.lend_root``."""
        return await self._run("lend the root", lambda here: os.dup(here.root_fd))

    async def bring(self, items: Sequence[Bringing], *, root_fd: int) -> list[LibrarianError | None]:
        """See ``Store.bring``."""
        return await self._run("bring", lambda here: bringing.bring(here, items, root_fd=root_fd), pace=Pace.LONG)

    async def let_go(self, payloads: Sequence[Path]) -> list[bool]:
        """See ``Store.let_go``."""
        return await self._run("let go", lambda here: medium.let_go(here, payloads), pace=Pace.LONG)

    async def measure_directly(self, payload: Path, algorithm: Algorithm) -> Measured | None:
        """See ``Store.measure_directly``."""
        return await self._run("measure", lambda here: medium.measure(here, payload, algorithm), pace=Pace.LONG)

    async def publish(self, items: Sequence[Publication]) -> list[Publishing | LibrarianError]:
        """See ``Store.publish``."""
        return await self._run("publish", lambda here: publishing.publish(here, items), pace=Pace.LONG)

    async def clear(self, tokens: Sequence[Token]) -> list[Token]:
        """See ``Store.clear``."""
        return await self._run("clear", lambda here: staging.clear(here, tokens), pace=Pace.LONG)

    async def staged_sizes(self, tokens: Sequence[Token]) -> dict[Token, int]:
        """See ``Store.staged_sizes``."""
        return await self._run("measure staging", lambda here: staging.sizes(here, tokens), pace=Pace.LONG)

    async def staged_members(self, token: Token) -> dict[MemberPath | None, int]:
        """See ``Store.staged_members``."""
        return await self._run("list staged members", lambda here: staging.members(here, token))

    async def staged_size(self, token: Token, member: MemberPath | None) -> int | None:
        """See ``Store.staged_size``."""
        return await self._run("look at a staged file", lambda here: staging.member_size(here, token, member))

    async def write(
        self, token: Token, member: MemberPath | None, chunks: AsyncIterator[bytes], *, offset: int, limit: int
    ) -> int:
        """See ``Store.write``."""
        guard.forbid_io_in_transaction("write")
        run = partial(self._run, f"write '{member or token}'", pace=Pace.LONG)
        return await writing.Stream(run, place=(token, member), offset=offset, limit=limit).receive(chunks)

    async def write_small(self, items: Sequence[tuple[Token, MemberPath | None, bytes]]) -> list[LibrarianError | None]:
        """See ``Store.write_small``."""
        return await self._run("write", lambda here: writing.write_many(here, items))

    async def make_book_directories(self, token: Token, directories: Sequence[MemberPath]) -> None:
        """See ``Store.make_book_directories``."""
        await self._run("make a book", lambda here: writing.make_book(here, token, directories))

    async def lay_probe(self) -> str:
        """See ``Store.lay_probe``."""
        return await self._run("lay a probe", staging.lay_probe)

    async def read(self, work: Callable[[], T]) -> T:
        """See ``Store.read``."""
        guard.forbid_io_in_transaction("read")
        self._require_footing()
        return await self._ride("read", lambda _: work(), pace=Pace.QUICK)

    def published_member(self, name: FileName, member: MemberPath | None) -> Path:
        """See ``Store.published_member``."""
        try:
            with ground.stand(self._spec, self._require_footing(), self._lane.new_trip()) as here:
                os.close(_open_published(here, name, member))
        except OSError as error:
            raise faults.refusal_of(error, store=self.name, what=f"read '{name}'") from error
        return self.root / name / member if member is not None else self.root / name

    async def open_published(self, name: FileName, member: MemberPath | None) -> BinaryIO:
        """See ``Store.open_published``."""
        fd = await self._run(f"read '{name}'", lambda here: _open_published(here, name, member))
        return os.fdopen(fd, "rb", buffering=0)

    async def pour(self, items: Sequence[Pouring], *, source: Source, lane: lane.Lane) -> list[Poured]:
        """See ``Store.pour``."""
        guard.forbid_io_in_transaction("pour")
        footing = self._require_footing()

        def ride(trip: Trip) -> list[Poured]:
            with source.stand() as drive_fd, ground.stand(self._spec, footing, trip) as here:
                return pouring.pour(here, items, source=source, drive_fd=drive_fd)

        return await self._heed("pour", lane.run(ride, pace=Pace.LONG))

    async def survey(self, known: Collection[Token], *, older_than: timedelta = timedelta(hours=1)) -> list[Stray]:
        """See ``Store.survey``."""
        return await self._run("survey staging", lambda here: quarantine.survey(here, known, older_than))

    async def quarantine(self, strays: Sequence[Stray]) -> list[Stray]:
        """See ``Store.quarantine``."""
        return await self._run("quarantine", lambda here: quarantine.set_aside(here, strays))

    async def set_bad_aside(self, copies: Sequence[BadCopy]) -> list[str | LibrarianError]:
        """See ``Store.set_bad_aside``."""
        return await self._run("set bad copies aside", lambda here: quarantine.set_bad_aside(here, copies))

    async def expire_quarantine(self, older_than: timedelta) -> list[str]:
        """See ``Store.expire_quarantine``."""
        return await self._run(
            "expire the quarantine", lambda here: quarantine.expire(here, older_than), pace=Pace.LONG
        )
