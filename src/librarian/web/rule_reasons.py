"""Rule reasons: why a rule's files go or do not go, and by which engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian import owing, preflight, states
from librarian.errors import NotFound
from librarian.gates import closed_hours, gate_of
from librarian.names import FileName
from librarian.states import Intent, Presence
from librarian.timing import utc_now
from librarian.web.traffic import traffic_of
from librarian.wire.rules import DueGroup, EngineLook, FileWhy, RuleDescription, RuleWay, RuleWhy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.records import File, Peer, Rule
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName
    from librarian.policies import RulePolicy
    from librarian.site import Site


async def explain(tx: Transaction, site: Site, rule: Rule, told: RuleDescription, *, file: str | None) -> RuleWhy:
    """Everything that bears on whether, when and how the files of *rule* go; *file*: what it means for this one.

    Raises
    ------
    NotFound
        There is no such file.
    """
    policy = told.policy
    peer = None if rule.peer_id is None else (await tx.peers.with_ids([rule.peer_id])).get(rule.peer_id)
    groups = await tx.waiting.groups(rule.id)
    return RuleWhy(
        rule=told,
        obstacles=await _obstacles(tx, site, peer, policy),
        traffic=None if peer is None else (await traffic_of(tx, site, [peer]))[peer.id],
        ways=[] if peer is None or rule.way is not states.RuleWay.NETWORK else _ways(site, peer, policy),
        due=[
            DueGroup(state=group.state, code=group.code, files=group.files, bytes=group.bytes, example=group.example)
            for group in groups
        ],
        file=None if file is None else await _file(tx, rule, policy, FileName(file)),
    )


async def _obstacles(tx: Transaction, site: Site, peer: Peer | None, policy: RulePolicy) -> list[str]:
    now = utc_now()
    hours = closed_hours(policy, now=now)
    if policy.way is states.RuleWay.LOCAL:
        return [hours] if hours else []
    if peer is None:
        return [f"there is no peer called '{policy.peer}'"]
    if policy.way is states.RuleWay.CARRIED:
        return [hours] if hours else []
    found = [gate_of(peer, now=now).why, hours]
    under_way = await tx.batches.count_under_way(peer.id)
    if under_way >= site.settings.clones.batches_per_peer:
        found.append(f"{under_way} batches to {peer.name} are under way, as many as may be")
    if peer.staged_budget is not None:
        staged = await tx.outgoing.staged_bytes(peer.id)
        if staged >= peer.staged_budget:
            found.append(f"{peer.name} has {staged:,} bytes in its staging, its budget is {peer.staged_budget:,}")
    found.append(site.neighbours.trouble_of(peer.name) or "")
    return [why for why in found if why]


def _ways(site: Site, peer: Peer, policy: RulePolicy) -> list[RuleWay]:
    stores = [store.name for store in site.stores.fixed() if policy.from_store in (None, store.name)]
    return [
        RuleWay(
            from_store=found.source or "",
            to_store=found.destination,
            engine=found.engine,
            looks=[EngineLook(engine=look.engine, why_not=look.why_not, remedy=look.remedy) for look in found.looks],
        )
        for found in preflight.survey(peer, site.engines, sources=stores, wanted=policy.engines)
    ]


async def _file(tx: Transaction, rule: Rule, policy: RulePolicy, name: FileName) -> FileWhy:
    file = (await tx.files.named([name])).get(name)
    if file is None:
        raise NotFound(f"no file is called {name!r}", remedy="Search for it with 'librarian search'.")
    copies = await tx.instances.of_files([file.id])
    stores = [c.store for c in copies if c.presence is Presence.PRESENT and c.intent is Intent.KEEP]
    due = next((due for due in await tx.copies_due.of_files([file.id]) if due.rule == rule.name), None)
    if due is not None:
        told = due.reason or f"its copy is {due.state.value}"
        return FileWhy(
            name=name,
            is_asked=True,
            told=told,
            state=due.state,
            attempts=due.attempts,
            next_try_at=due.next_try_at,
        )
    is_asked = owing.matches(policy, name=name, stores=stores)
    told = await _settled(tx, rule, policy, file) if is_asked else _not_asked(policy, stores)
    return FileWhy(name=name, is_asked=is_asked, told=told, state=None, attempts=0, next_try_at=None)


def _not_asked(policy: RulePolicy, stores: Sequence[StoreName]) -> str:
    if policy.from_store is not None and policy.from_store not in stores:
        return f"it has no good copy on the store '{policy.from_store}'"
    return f"its name matches none of {', '.join(policy.match)}"


async def _settled(tx: Transaction, rule: Rule, policy: RulePolicy, file: File) -> str:
    """Why nothing is due of a file that the rule asks for."""
    if rule.way is states.RuleWay.LOCAL:
        return await _settled_here(tx, rule, policy, file)
    held = {copy.peer for copy in await tx.remote_instances.of_files([file.id])}
    if policy.peer in held:
        return f"{policy.peer} holds it"
    if rule.peer_id is None:
        return f"there is no peer called '{policy.peer}'"
    if _is_yet_to_walk(rule, file):
        return _UNWALKED
    return f"it came from {policy.peer}, or was given up there on purpose"


async def _settled_here(tx: Transaction, rule: Rule, policy: RulePolicy, file: File) -> str:
    copies = await tx.instances.of_files([file.id])
    stores = [copy.store for copy in copies if owing.takes(policy, copy.store)]
    if stores:
        return f"it is, or was on purpose removed from, {', '.join(stores)}"
    return _UNWALKED if _is_yet_to_walk(rule, file) else "nothing is known of why"


_UNWALKED: Final = "the back-fill of the rule has not come to it yet"


def _is_yet_to_walk(rule: Rule, file: File) -> bool:
    return rule.backfill_after is not None and rule.backfill_after < file.id
