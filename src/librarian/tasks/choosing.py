"""Choosing: from which copy of ours another one is made, and onto which store. No input, no output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian import owing
from librarian.catalog.loading import ANY_STORE
from librarian.states import Intent, Presence, RuleWay

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from librarian.catalog.loading import Loadable, Target
    from librarian.catalog.records import InstanceRecord
    from librarian.names import FileId, StoreName
    from librarian.policies import RulePolicy

#: What a file takes on a disk beyond its bytes, at most: a part of a block, and its place in a directory.
BLOCK_BYTES: Final = 4096 + 512


@dataclass(frozen=True, kw_only=True)
class Paid:
    """It is where it should be already."""

    store: StoreName


@dataclass(frozen=True, kw_only=True)
class NoSource:
    """No good copy is here."""


@dataclass(frozen=True, kw_only=True)
class Away:
    """It could be made, but not now."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """No store that is here can keep it; another one may."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """It is for another lane: the store there is the fullest that it fits on, or it fits on none."""

    fits: bool


@dataclass(frozen=True, kw_only=True)
class Go:
    """It is made from the copy on *source*; *replaces*: the one on the target is bad."""

    source: StoreName
    replaces: bool


Choice = Paid | NoSource | Away | Unfit | Elsewhere | Go


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is so while the copies of one rule are chosen for one target."""

    policy: RulePolicy
    target: Target
    #: Stores that may be written now.
    usable: Mapping[StoreName, Target]
    #: Stores that may be read now, those that stay here before drives.
    readable: Sequence[StoreName]
    #: Drives on which a copy is as good as loaded for the rule.
    carriers: Collection[StoreName]
    #: The fullest of some stores that so many bytes fit on.
    fullest: Callable[[int, Collection[StoreName]], StoreName | None]
    #: Copies that a sealed drive has carried in vain: the peer did not take them from it.
    in_vain: Collection[tuple[FileId, StoreName]] = ()


def room_for(copy: Loadable) -> int:
    """Bytes to promise for *copy*."""
    return copy.size + BLOCK_BYTES * copy.members


def choose(copy: Loadable, copies: Sequence[InstanceRecord], scene: Scene, *, unfit: Mapping[StoreName, str]) -> Choice:
    """What is to be done about *copy*, a file of which there are *copies*; stores cannot keep it that are *unfit*."""
    wanted = [each for each in copies if _is_wanted_on(each.store, copy, scene)]
    settled = next((each for each in wanted if _settles(each, scene)), None)
    if settled is not None:
        return Paid(store=settled.store)
    good = {each.store for each in copies if _is_good(each)}
    if not good:
        return NoSource()
    source = next((store for store in scene.readable if store in good), None)
    if source is None:
        return Away(reason=f"its copies are on {', '.join(sorted(good))}, which cannot be read now")
    # What is in doubt is read again, which decides.
    doubtful = {each.store for each in wanted if each.presence is Presence.SUSPECT}
    fitting = [name for name in scene.usable if _is_wanted_on(name, copy, scene) and name not in good | doubtful]
    if not fitting:
        return Away(reason=f"there is a copy on {', '.join(sorted(doubtful | good))}, which does not count")
    kept = [name for name in fitting if name not in unfit]
    if not kept:
        return Unfit(reason="; ".join(unfit[name] for name in fitting))
    store = scene.fullest(room_for(copy), kept)
    if store != scene.target.name:
        return Elsewhere(fits=store is not None)
    bad = {each.store for each in wanted if each.presence is Presence.CORRUPT}
    return Go(source=source, replaces=store in bad)


def _is_wanted_on(store: StoreName, copy: Loadable, scene: Scene) -> bool:
    if copy.store_id != ANY_STORE:
        return store == scene.target.name
    return owing.takes(scene.policy, store)


def _is_good(copy: InstanceRecord) -> bool:
    return copy.presence is Presence.PRESENT and copy.intent is Intent.KEEP


def _settles(copy: InstanceRecord, scene: Scene) -> bool:
    if scene.policy.way is RuleWay.CARRIED:
        return _is_good(copy) and copy.store in scene.carriers and (copy.file_id, copy.store) not in scene.in_vain
    # What was given up on purpose is not made again.
    return _is_good(copy) or copy.presence is Presence.REMOVED or copy.intent is Intent.WITHDRAW
