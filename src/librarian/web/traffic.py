"""Traffic: what goes to each peer, and what is left to go, for whoever asks about peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from librarian import windows
from librarian.catalog.due_totals import due_subject, quarantined_subject
from librarian.gates import gate_of
from librarian.timing import utc_now
from librarian.wire.peers import Traffic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from librarian.catalog.records import Peer
    from librarian.catalog.transaction import Transaction
    from librarian.names import PeerId
    from librarian.site import Site


async def traffic_of(tx: Transaction, site: Site, peers: Sequence[Peer]) -> dict[PeerId, Traffic]:
    """What goes to each of *peers*: totals that are kept, so that it costs the same however much is due."""
    now = utc_now()
    subjects = [subject(peer.id) for peer in peers for subject in (due_subject, quarantined_subject)]
    totals = await tx.tallies.of_many(subjects)
    moved = await tx.batches.bytes_done()
    found: dict[PeerId, Traffic] = {}
    for peer in peers:
        gate = gate_of(peer, now=now)
        rate = site.meters.rate_of(peer.id, now=now)
        owed, aside = totals[due_subject(peer.id)], totals[quarantined_subject(peer.id)]
        found[peer.id] = Traffic(
            state=gate.state,
            flow=peer.flow,
            is_moving=gate.may_move,
            why_not=gate.why,
            changes_at=gate.changes_at,
            bytes_per_second=rate,
            seconds_left=_seconds_left(peer, max(owed.bytes - moved.get(peer.id, 0), 0), rate=rate, now=now),
            due_files=owed.files,
            due_bytes=owed.bytes,
            quarantined_files=aside.files,
            quarantined_bytes=aside.bytes,
        )
    return found


def _seconds_left(peer: Peer, size: int, *, rate: int, now: datetime) -> int | None:
    """How long *size* bytes take at *rate*, the hours included in which nothing may flow; None while nothing moves."""
    if not rate:
        return None
    if not size:
        return 0
    return windows.wall_seconds(windows.parsed(peer.windows), now, size // rate)
