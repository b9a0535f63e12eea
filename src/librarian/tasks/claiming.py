"""Claiming: which copies one store of ours is given to take in next, within one transaction."""

from __future__ import annotations

import uuid
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from librarian import owing
from librarian.catalog.incoming_rows import Opening
from librarian.catalog.loading import ANY_STORE, Owed, Setback
from librarian.catalog.misfits import MISFIT
from librarian.gates import is_in_hours
from librarian.names import Token
from librarian.policies import MIB
from librarian.states import Arrival, DriveState, DueState, RuleWay
from librarian.tasks import choosing, planning
from librarian.tasks.choosing import Away, Elsewhere, Go, NoSource, Paid, Scene, Unfit
from librarian.tasks.dealing import BEYOND

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from librarian.catalog.loading import Loadable, Target
    from librarian.catalog.records import Incoming, InstanceRecord, Rule
    from librarian.catalog.transaction import Transaction
    from librarian.catalog.waiting import WaitingRule
    from librarian.names import FileId, StoreName
    from librarian.policies import RulePolicy
    from librarian.room import Ledger
    from librarian.tasks.choosing import Choice

#: What one lane takes up at once: what an unplugged drive throws back, and what ingest verifies meanwhile.
BATCH_FILES: Final = 1024
BATCH_BYTES: Final = 256 * MIB
#: A copy whose source, or whose place, is not to be had now is looked at again after this long.
LOOK_AGAIN: Final = timedelta(minutes=1)
#: And so long where no store that is here can keep it, unless another one comes.
FIT_AGAIN: Final = timedelta(hours=1)
#: The account of copies that the librarian makes itself.
OWN_ACCOUNT: Final = "librarian"
#: States of a drive on which a copy waits for its peer.
_ON_ITS_WAY: Final = (DriveState.SEALING, DriveState.SEALED, DriveState.IN_TRANSIT, DriveState.RECEIVED)
_STAYS_OPEN: Final = (DriveState.LOADING, DriveState.FULL)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One copy that is being made."""

    due: Loadable
    source: StoreName
    #: What stands under its name on the target is bad.
    replaces: bool
    transfer: Incoming

    @property
    def owed(self) -> Owed:
        """The row that it pays."""
        return Owed(file_id=self.due.file_id, rule_id=self.due.rule_id, store=self.transfer.store)


@dataclass(frozen=True, kw_only=True)
class Lading:
    """Copies that one store takes in together."""

    target: StoreName
    copies: tuple[Copy, ...]


@dataclass(frozen=True, kw_only=True)
class Cramped:
    """Nothing fits on a store that is due for it."""

    #: The least of what is due, and the bytes that are left for it.
    least: Loadable
    left: int
    #: Another store takes it.
    is_taken_elsewhere: bool


@dataclass(kw_only=True)
class Claimer:
    """Gives each free store something to take in; what it finds settled or hopeless on the way, it writes down."""

    tx: Transaction
    site: str
    now: datetime
    waiting: Sequence[WaitingRule]
    targets: Sequence[Target]
    #: Stores that may be written now, and those that may be read, in the order in which they are read.
    usable: Mapping[StoreName, Target]
    readable: Sequence[StoreName]
    ledger: Ledger
    #: The most that fits on a store, as a copy found out for which there was less room than it seemed.
    ceilings: Mapping[StoreName, int]
    #: Stores on which nothing fitted a short while ago: only what became due since then is looked at.
    since: Mapping[StoreName, datetime]
    #: Turns that were taken before, for the rules' sake.
    turns: int
    #: Something was settled: there may be more to claim.
    has_settled: bool = False
    cramped: dict[StoreName, Cramped] = field(default_factory=dict)

    async def claim_for(self, target: Target) -> Lading | None:
        """Claim the next copies for *target*, of one rule; None when there are none that fit."""
        policies = {each.rule.id: (each.since, owing.policy_of(each.rule)) for each in self.waiting}
        rules = {each.rule.id: each.rule for each in self.waiting}
        lacking: list[tuple[Loadable, Elsewhere]] = []
        for rule_id in planning.in_turn(policies, offers=self.turns):
            policy = policies[rule_id][1]
            if not owing.takes(policy, target.name) or not is_in_hours(policy, now=self.now):
                continue
            chosen, left = await self._choose(rules[rule_id], policy, target)
            if chosen:
                return await self._open(chosen, target)
            lacking += left
        if lacking and not self.has_settled:
            least, where = min(lacking, key=lambda each: choosing.room_for(each[0]))
            self.cramped[target.name] = Cramped(least=least, left=self._left_on(target), is_taken_elsewhere=where.fits)
        return None

    def _left_on(self, target: Target) -> int:
        return min(self.ledger.left_on(target.name), self.ceilings.get(target.name, BEYOND))

    def _fullest(self, size: int, among: Collection[StoreName]) -> StoreName | None:
        roomy = [name for name in among if size <= self.ceilings.get(name, BEYOND)]
        return self.ledger.place_fullest(size, among=roomy)

    async def _choose(
        self, rule: Rule, policy: RulePolicy, target: Target
    ) -> tuple[list[tuple[Loadable, Go]], Sequence[tuple[Loadable, Elsewhere]]]:
        """The copies for *target* with their sources; and where there are none, some of those that lack room."""
        store = target.id if policy.copies == "each" else ANY_STORE
        most = min(policy.batch_files, BATCH_FILES)
        scene = self._scene(rule, policy, target)
        since = self.since.get(target.name)
        due = partial(self.tx.loading.candidates, rule.id, store=store, now=self.now, since=since, limit=most)
        largest = self._left_on(target)
        while True:
            page = await due(largest=largest)
            if not page:
                return [], await self._lacking(await due(largest=BEYOND), scene) if since is None else ()
            choices = await self._look(page, scene)
            chosen = [(copy, choice) for copy, choice in choices if isinstance(choice, Go)]
            await self._settle(choices, target)
            if chosen or any(choice != Elsewhere(fits=False) for _, choice in choices):
                return chosen, ()
            # What seems to fit does not, with what a file takes beyond its bytes: something smaller may.
            largest = min(copy.size for copy in page) - 1

    async def _lacking(self, page: Sequence[Loadable], scene: Scene) -> list[tuple[Loadable, Elsewhere]]:
        """Those of *page*, which do not fit on the target, that are really to be made."""
        choices = await self._look(page, scene)
        await self._settle(choices, scene.target)
        return [(copy, choice) for copy, choice in choices if isinstance(choice, Elsewhere)]

    def _scene(self, rule: Rule, policy: RulePolicy, target: Target) -> Scene:
        carriers = [
            each.name
            for each in self.targets
            if each.drive in _STAYS_OPEN or (each.drive in _ON_ITS_WAY and each.bound_for == rule.peer_id)
        ]
        return Scene(
            policy=policy,
            target=target,
            usable={name: each for name, each in self.usable.items() if policy.way is RuleWay.LOCAL or each.drive},
            readable=self.readable,
            carriers=carriers,
            fullest=self._fullest,
        )

    async def _look(self, page: Sequence[Loadable], scene: Scene) -> list[tuple[Loadable, Choice]]:
        by_file: defaultdict[FileId, list[InstanceRecord]] = defaultdict(list)
        files = [each.file_id for each in page]
        for copy in await self.tx.instances.of_files(files):
            by_file[copy.file_id].append(copy)
        unfit = await self.tx.misfits.of_files(files)
        sealed = {each.name for each in self.targets if each.drive in _ON_ITS_WAY}
        travelling = {copy.file_id for copies in by_file.values() for copy in copies if copy.store in sealed}
        if travelling:
            scene = replace(scene, in_vain=await self.tx.manifests.failed_on(travelling))
        most_bytes = min(scene.policy.batch_bytes, BATCH_BYTES)
        choices: list[tuple[Loadable, Choice]] = []
        taken = 0
        for due in page:
            choice = choosing.choose(due, by_file[due.file_id], scene, unfit=unfit.get(due.file_id, {}))
            if isinstance(choice, Go):
                if taken and taken + due.size > most_bytes:
                    break
                taken += due.size
                self.ledger.promise(choosing.room_for(due), on=scene.target.name)
            choices.append((due, choice))
        return choices

    async def _settle(self, choices: Sequence[tuple[Loadable, Choice]], target: Target) -> None:
        paid: list[Owed] = []
        late: list[Setback] = []
        for due, choice in choices:
            match choice:
                case Paid():
                    paid.append(Owed(file_id=due.file_id, rule_id=due.rule_id, store=choice.store))
                case NoSource():
                    reason = "no good copy of it is here"
                    late.append(self._setback(due, target, state=DueState.BLOCKED, code="no_source", reason=reason))
                case Away():
                    late.append(self._setback(due, target, state=DueState.DUE, code="away", reason=choice.reason))
                case Unfit():
                    late.append(self._setback(due, target, state=DueState.DUE, code=MISFIT, reason=choice.reason))
                case Elsewhere() | Go():
                    pass
        await self.tx.loading.paid(paid)
        await self.tx.loading.put_off(late)
        self.has_settled = self.has_settled or bool(paid or late)

    def _setback(self, due: Loadable, target: Target, *, state: DueState, code: str, reason: str) -> Setback:
        return Setback(
            owed=Owed(file_id=due.file_id, rule_id=due.rule_id, store=target.name),
            state=state,
            next_try_at=self.now + (FIT_AGAIN if code == MISFIT else LOOK_AGAIN),
            code=code,
            reason=reason,
        )

    async def _open(self, chosen: Sequence[tuple[Loadable, Go]], target: Target) -> Lading:
        ids = {each.name: each.id for each in self.targets}
        await self.tx.loading.claim([due for due, _ in chosen])
        transfers = await self.tx.incoming.open(
            [
                Opening(
                    uuid=str(uuid.uuid4()),
                    arrival=Arrival.COPY,
                    peer_id=None,
                    account=OWN_ACCOUNT,
                    name=due.name,
                    kind=due.kind,
                    size=due.size,
                    checksum=due.checksum,
                    uploader=due.uploader,
                    origin=due.origin,
                    file_created_at=due.created_at,
                    store=target.name,
                    token=Token.mint(),
                    reserved=choosing.room_for(due),
                    source_store_id=ids[how.source],
                    rule_id=due.rule_id,
                )
                for due, how in chosen
            ]
        )
        copies = zip(chosen, transfers, strict=True)
        return Lading(
            target=target.name,
            copies=tuple(
                Copy(due=due, source=how.source, replaces=how.replaces, transfer=transfer)
                for (due, how), transfer in copies
            ),
        )
