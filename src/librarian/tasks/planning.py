"""Planning: whose turn it is, and how much goes at once. No input, no output: what waits in, decisions out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian.outcomes import BATCH_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from librarian.catalog.records import Tally
    from librarian.catalog.waiting import Candidate
    from librarian.names import PeerId, RuleId
    from librarian.policies import RulePolicy

#: Each so many-th offer to a peer is for the rule that has waited longest, whatever its priority.
FAIR_TURN: Final = 4
#: A batch that failed as a whole comes back in pieces this many times smaller.
SHRINK: Final = 16


def in_turn(waiting: Mapping[RuleId, tuple[datetime, RulePolicy]], *, offers: int) -> list[RuleId]:
    """The rules in *waiting* (since when, and what each asks for) in the order in which they may offer to their peer.

    Higher priorities come first, and among equals who has waited longest. *offers* have been made to the peer before:
    each ``FAIR_TURN``-th heeds the waiting alone, so that a low priority waits longer and not for ever.
    """
    heeds_priority = (offers + 1) % FAIR_TURN != 0

    def place(rule: RuleId) -> tuple[int, datetime, RuleId]:
        since, policy = waiting[rule]
        return (-policy.priority if heeds_priority else 0, since, rule)

    return sorted(waiting, key=place)


def fills_at(policy: RulePolicy, *, since: datetime, sample: Tally) -> datetime:
    """When what waits may be offered although it is less than a batch, the first of it waiting *since*.

    *sample* tells of the first ``policy.batch_files`` of it; a whole batch need not wait.
    """
    is_whole = sample.files >= policy.batch_files or sample.bytes >= policy.batch_bytes
    return since if is_whole else since + policy.batch_age


def room_of(policy: RulePolicy, *, budget: int | None, staged: int) -> int:
    """Bytes that may be offered in one batch, while *staged* bytes of the peer's *budget* are in use."""
    return policy.batch_bytes if budget is None else min(policy.batch_bytes, budget - staged)


def apart(candidates: Sequence[Candidate], *, most: int) -> Sequence[Candidate]:
    """Those of *candidates* that may go together, of which there may be *most*.

    What failed as a whole batch goes by itself, in ever smaller batches, until a bad one is alone and counts as such.
    """
    whole = [each for each in candidates if each.code == BATCH_FAILED]
    if not whole or whole[0] is not candidates[0]:
        return [each for each in candidates if each.code != BATCH_FAILED]
    fewer = most // SHRINK ** min(whole[0].attempts, 4)
    return [each for each in whole if each.attempts == whole[0].attempts][: max(1, fewer)]


def within(candidates: Iterable[Candidate], room: int, *, takes_one: bool) -> list[Candidate]:
    """As many of *candidates*, in their order, as *room* bytes hold; *takes_one*: at least one, whatever its size."""
    chosen: list[Candidate] = []
    total = 0
    for candidate in candidates:
        total += candidate.size
        if total > room and not (takes_one and not chosen):
            break
        chosen.append(candidate)
    return chosen


def may_start(peer: PeerId, *, under_way: Mapping[PeerId, int], waiting: Sequence[PeerId], most: int) -> bool:
    """Whether the next batch that an engine starts may be one to *peer*.

    *under_way* counts the engine's batches by peer, of which there may be *most*; *waiting* are the peers that could
    have another, longest waiting first. Who has none may have one, whatever the others have: peers whose batches take
    for ever starve nobody. Among the others who has fewest comes first.
    """
    if under_way.get(peer, 0) == 0:
        return True
    free = most - sum(under_way.values())
    line = sorted(waiting, key=lambda each: under_way.get(each, 0))
    return peer in line[: max(free, 0)]
