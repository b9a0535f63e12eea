"""Preflight: which engine brings files from a store of ours to a store of a peer, and why not the others.

The one place that decides it, for those who send and for those who ask. Nothing is called and nothing is read here:
it is known from the settings, and from what was pinned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.policies import ENGINES
from librarian.states import Reach

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from librarian.catalog.records import Peer
    from librarian.names import StoreName
    from librarian.transfers.base import TransferEngine

#: What makes an engine work here.
_SET_UP: Final = {
    "globus": "Add [globus] to the settings, and restart.",
    "rsync": "Add [rsync] to the settings, and restart.",
}
#: What makes a store of the peer offer an entry point.
_OFFER: Final = {
    "globus": "At the peer, say where the store is found at Globus",
    "rsync": "At the peer, say where ssh finds the store",
    "local": "Mount the peer's staging here under the path that it has there",
    "http": "At the peer, make the store available",
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found out about one engine; ``why_not`` is empty where it can be used."""

    engine: str
    why_not: str = ""
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What was found out about one pair of stores: a look at each engine, in order of preference."""

    source: StoreName | None
    destination: StoreName
    looks: tuple[Look, ...]

    @property
    def engine(self) -> str | None:
        """The one that will be used; None where there is none."""
        return next((look.engine for look in self.looks if not look.why_not), None)

    @property
    def why_not(self) -> str:
        """Why each of those that cannot be used is passed over, in one line."""
        return "; ".join(f"{look.engine}: {look.why_not}" for look in self.looks if look.why_not)


def preflight(
    peer: Peer,
    engines: Mapping[str, TransferEngine],
    *,
    source: StoreName | None,
    destination: StoreName,
    wanted: Sequence[str] = (),
) -> Preflight:
    """Look at the engines *wanted*, in that order (all of them by default), for what goes from *source* to *peer*.

    *engines* are those of this site. Without *source* any of our stores will do.
    """
    looks = tuple(
        _look(name, peer, engines.get(name), source=source, destination=destination) for name in wanted or ENGINES
    )
    return Preflight(source=source, destination=destination, looks=looks)


def survey(
    peer: Peer, engines: Mapping[str, TransferEngine], *, sources: Iterable[StoreName], wanted: Sequence[str] = ()
) -> tuple[Preflight, ...]:
    """One preflight for each of *sources* and each store of *peer* that has a pinned entry point."""
    destinations = sorted({point.store for point in peer.entry_points})
    return tuple(
        preflight(peer, engines, source=source, destination=destination, wanted=wanted)
        for source in sources
        for destination in destinations
    )


def _look(
    name: str, peer: Peer, engine: TransferEngine | None, *, source: StoreName | None, destination: StoreName
) -> Look:
    if engine is None:
        return Look(engine=name, why_not="it is not set up at this site", remedy=_SET_UP[name])
    if (destination, name) not in {(point.store, point.engine) for point in peer.entry_points}:
        return Look(
            engine=name,
            why_not=f"no entry point of the store '{destination}' at {peer.name} is pinned",
            remedy=f"{_OFFER[name]}; then run here: peer check {peer.name} --accept",
        )
    if name == "http" and peer.reach is Reach.POLL:
        return Look(
            engine=name, why_not=f"{peer.name} cannot be called from here", remedy="Use an engine that reaches it."
        )
    if source is not None and not engine.reads(source):
        return Look(
            engine=name,
            why_not=f"it cannot read our store '{source}'",
            remedy=f"Say in the settings of '{source}' where {name} finds it.",
        )
    return Look(engine=name)
