"""Peers: other librarians."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, exists, insert, or_, select, update

from librarian.catalog.records import EntryPoint, Peer
from librarian.catalog.repository import Repository
from librarian.catalog.schema import (
    BatchRow,
    CopyDueRow,
    IncomingRow,
    ManifestRow,
    OutboxRow,
    OutgoingRow,
    PeerRow,
    ReceptionRow,
    RemoteInstanceRow,
    RuleRow,
    TallyRow,
    ToldRow,
)
from librarian.errors import Conflict, NotFound
from librarian.names import PeerId, SiteName, StoreName
from librarian.states import LIVE, Flow, Reach
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog import rows


_COLUMNS = (
    PeerRow.id,
    PeerRow.name,
    PeerRow.url,
    PeerRow.username,
    PeerRow.reach,
    PeerRow.is_fetched,
    PeerRow.is_enabled,
    PeerRow.accepts,
    PeerRow.entry_points,
    PeerRow.held_because,
    PeerRow.flow,
    PeerRow.rate_limit,
    PeerRow.windows,
    PeerRow.staged_budget,
    PeerRow.seen_epoch,
    PeerRow.seen_seq,
    PeerRow.sent_seq,
    PeerRow.last_heard_at,
    PeerRow.created_at,
)


def _pack_entry_points(entry_points: Sequence[EntryPoint]) -> str:
    return json.dumps([asdict(point) for point in entry_points], separators=(",", ":"))


def _peer(row: rows.Found) -> Peer:
    found = row._mapping
    return Peer(
        id=PeerId(found["id"]),
        name=SiteName(found["name"]),
        url=found["url"],
        username=found["username"],
        reach=Reach(found["reach"]),
        is_fetched=found["is_fetched"],
        is_enabled=found["is_enabled"],
        accepts=tuple(json.loads(found["accepts"])),
        entry_points=tuple(
            EntryPoint(
                store=StoreName(point["store"]),
                engine=point["engine"],
                address=point["address"],
                staging=point["staging"],
            )
            for point in json.loads(found["entry_points"])
        ),
        held_because=found["held_because"],
        flow=Flow(found["flow"]),
        rate_limit=found["rate_limit"],
        windows=tuple(json.loads(found["windows"])),
        staged_budget=found["staged_budget"],
        seen_epoch=found["seen_epoch"],
        seen_seq=found["seen_seq"],
        sent_seq=found["sent_seq"],
        last_heard_at=found["last_heard_at"],
        created_at=found["created_at"],
    )


class Peers(Repository):
    """Other librarians."""

    async def all(self) -> tuple[Peer, ...]:
        """Every peer, by name."""
        found = await self._connection.execute(select(*_COLUMNS).order_by(PeerRow.name))
        return tuple(_peer(row) for row in found)

    async def enabled(self) -> tuple[PeerId, ...]:
        """The peers that may be called and may call."""
        return tuple(
            PeerId(peer) for peer in await self._connection.scalars(select(PeerRow.id).where(PeerRow.is_enabled))
        )

    async def find(self, name: str) -> Peer | None:
        """The peer called *name*, if there is one."""
        row = (await self._connection.execute(select(*_COLUMNS).where(PeerRow.name == name))).first()
        return _peer(row) if row else None

    async def get(self, name: str) -> Peer:
        """The peer called *name*.

        Raises
        ------
        NotFound
            There is none.
        """
        peer = await self.find(name)
        if peer is None:
            raise NotFound(f"no peer is called {name!r}", remedy="See 'peer list' for the names.")
        return peer

    async def with_ids(self, ids: Sequence[PeerId]) -> dict[PeerId, Peer]:
        """The peers with the given *ids*; unknown ids are left out."""
        found = await self._connection.execute(select(*_COLUMNS).where(PeerRow.id.in_(ids)))
        return {peer.id: peer for peer in map(_peer, found)}

    async def fetched(self) -> tuple[PeerId, ...]:
        """Enabled peers that cannot call us."""
        found = await self._connection.scalars(select(PeerRow.id).where(PeerRow.is_enabled, PeerRow.is_fetched))
        return tuple(PeerId(peer) for peer in found)

    async def secrets_of(self, peer: PeerId) -> tuple[bytes, bytes | None]:
        """Our encrypted password at *peer*, and the next one where one is prepared; raises NotFound."""
        row = (
            await self._connection.execute(select(PeerRow.secret, PeerRow.next_secret).where(PeerRow.id == peer))
        ).first()
        if row is None:
            raise NotFound(f"no peer has the id {peer}")
        return bytes(row.secret), None if row.next_secret is None else bytes(row.next_secret)

    async def prepare_secret(self, peer: PeerId, secret: bytes | None) -> None:
        """Our next password at *peer*, encrypted, to be tried before the one that we have; None: there is none."""
        await self._connection.execute(update(PeerRow).where(PeerRow.id == peer).values(next_secret=secret))

    async def promote_secret(self, peer: PeerId, secret: bytes) -> None:
        """The prepared password was seen to work at *peer*. A repeat does nothing."""
        await self._connection.execute(
            update(PeerRow)
            .where(PeerRow.id == peer, PeerRow.next_secret == secret)
            .values(secret=secret, next_secret=None)
        )

    async def public_key_of(self, name: str) -> str | None:
        """The key by which the peer *name* signs, where it is known."""
        key: str | None = await self._connection.scalar(select(PeerRow.public_key).where(PeerRow.name == name))
        return key

    async def authority_of(self, peer: PeerId) -> str | None:
        """PEM of the authority that *peer*'s certificate must come from; None: one that this machine trusts."""
        return await self._connection.scalar(select(PeerRow.authority).where(PeerRow.id == peer))

    async def trust(self, peer: PeerId, authority: str | None) -> None:
        """Replace the authority that *peer*'s certificate must come from (PEM)."""
        await self._connection.execute(update(PeerRow).where(PeerRow.id == peer).values(authority=authority))

    async def add(
        self,
        name: SiteName,
        *,
        url: str,
        username: str,
        secret: bytes,
        reach: Reach,
        accepts: Sequence[str],
        entry_points: Sequence[EntryPoint],
    ) -> Peer:
        """Write a new peer, enabled; rules that name it start to apply.

        Raises
        ------
        Conflict
            A peer of that name exists.
        """
        if await self.find(name) is not None:
            raise Conflict(f"a peer called {name!r} exists", remedy="Remove it first, or choose another name.")
        await self._connection.execute(
            insert(PeerRow).values(
                name=name,
                url=url,
                username=username,
                secret=secret,
                reach=reach,
                is_enabled=True,
                accepts=json.dumps(list(accepts)),
                entry_points=_pack_entry_points(entry_points),
                created_at=utc_now(),
            )
        )
        return await self.get(name)

    async def enable(self, peer: PeerId, *, is_enabled: bool) -> None:
        """Let everything go to and come from *peer*, or nothing. A repeat does nothing."""
        await self._connection.execute(update(PeerRow).where(PeerRow.id == peer).values(is_enabled=is_enabled))

    async def pin(self, peer: PeerId, entry_points: Sequence[EntryPoint]) -> None:
        """Replace the pinned entry points of *peer*, and hold it no longer."""
        await self._connection.execute(
            update(PeerRow)
            .where(PeerRow.id == peer)
            .values(entry_points=_pack_entry_points(entry_points), held_because=None)
        )

    async def reach_at(self, peer: PeerId, *, url: str, username: str, secret: bytes) -> None:
        """Replace where and as whom we call *peer*, and hold it no longer."""
        await self._connection.execute(
            update(PeerRow)
            .where(PeerRow.id == peer)
            .values(url=url, username=username, secret=secret, next_secret=None, held_because=None)
        )

    async def reach_by(self, peer: PeerId, reach: Reach, *, is_fetched: bool) -> None:
        """Replace how *peer* learns what we have to say, and how we learn what it has to say."""
        await self._connection.execute(
            update(PeerRow).where(PeerRow.id == peer).values(reach=reach, is_fetched=is_fetched)
        )

    async def learn_key(self, peer: PeerId, public_key: str) -> None:
        """Pin the key by which *peer* signs."""
        await self._connection.execute(update(PeerRow).where(PeerRow.id == peer).values(public_key=public_key))

    async def accept_from(self, peer: PeerId, prefixes: Sequence[str]) -> None:
        """Replace the name prefixes that we accept from *peer*."""
        await self._connection.execute(
            update(PeerRow).where(PeerRow.id == peer).values(accepts=json.dumps(list(prefixes)))
        )

    async def hold(self, peer: PeerId, why: str | None) -> None:
        """Send nothing to *peer* until somebody has looked (None: go on). A repeat does nothing."""
        await self._connection.execute(update(PeerRow).where(PeerRow.id == peer).values(held_because=why))

    async def let_flow(self, peer: PeerId, flow: Flow) -> None:
        """Set what goes to *peer* while it is enabled. A repeat does nothing."""
        await self._connection.execute(update(PeerRow).where(PeerRow.id == peer).values(flow=flow))

    async def limit(
        self, peer: PeerId, *, rate_limit: int | None, windows: Sequence[str], staged_budget: int | None
    ) -> None:
        """Set how fast (bytes per second), when, and how many bytes at a time go to *peer*. A repeat does nothing."""
        await self._connection.execute(
            update(PeerRow)
            .where(PeerRow.id == peer)
            .values(rate_limit=rate_limit, windows=json.dumps(list(windows)), staged_budget=staged_budget)
        )

    async def heard(self, peer: PeerId, *, epoch: int, seq: int) -> None:
        """*peer* spoke; (*epoch*, *seq*) is the position of its latest notice. The highest is kept."""
        now = utc_now()
        await self._connection.execute(
            update(PeerRow)
            .where(
                PeerRow.id == peer,
                or_(PeerRow.seen_epoch < epoch, and_(PeerRow.seen_epoch == epoch, PeerRow.seen_seq < seq)),
            )
            .values(seen_epoch=epoch, seen_seq=seq, last_heard_at=now)
        )

    async def take_seqs(self, peer: PeerId, count: int) -> int:
        """Reserve *count* sequence numbers for notices to *peer*; returns the first."""
        last = await self._connection.scalar(
            update(PeerRow)
            .where(PeerRow.id == peer)
            .values(sent_seq=PeerRow.sent_seq + count)
            .returning(PeerRow.sent_seq)
        )
        if last is None:
            raise NotFound(f"no peer has the id {peer}")
        return int(last) - count + 1

    async def remove(self, peer: PeerId) -> None:
        """Forget *peer*, its notices, ended transfers and due copies; files that came from it stay.

        Raises
        ------
        Conflict
            Transfers are under way, copies are known to be there, or a rule sends there.
        """
        await self.refuse_to_forget(peer)
        for table in (OutboxRow, ToldRow, CopyDueRow, OutgoingRow, BatchRow, RemoteInstanceRow):
            await self._connection.execute(delete(table).where(table.peer_id == peer))
        # Two peers may have chosen the same uuid; without them, what they sent is known by the tokens that we chose.
        await self._connection.execute(
            update(IncomingRow).where(IncomingRow.peer_id == peer).values(peer_id=None, uuid=IncomingRow.token)
        )
        await self._connection.execute(update(ReceptionRow).where(ReceptionRow.peer_id == peer).values(peer_id=None))
        await self._connection.execute(delete(RuleRow).where(RuleRow.peer_id == peer))
        await self._connection.execute(
            delete(TallyRow).where(TallyRow.subject.in_((f"due:{peer}", f"quarantined:{peer}")))
        )
        await self._connection.execute(delete(PeerRow).where(PeerRow.id == peer))

    async def refuse_to_forget(self, peer: PeerId) -> None:
        """Raise Conflict where ``remove`` would."""
        remedy = "Disable the peer instead; nothing is sent to a disabled peer."
        checks = (
            ("transfers to it are under way", exists().where(OutgoingRow.peer_id == peer, OutgoingRow.state.in_(LIVE))),
            ("drives were sealed for it", exists().where(ManifestRow.peer_id == peer)),
            ("files from it are arriving", exists().where(IncomingRow.peer_id == peer, IncomingRow.state.in_(LIVE))),
            (
                "it is known to hold copies",
                exists().where(RemoteInstanceRow.peer_id == peer, RemoteInstanceRow.is_held),
            ),
            ("a rule sends there", exists().where(RuleRow.peer_id == peer, RuleRow.is_enabled)),
        )
        for why, condition in checks:
            if await self._connection.scalar(select(condition)):
                raise Conflict(f"the peer cannot be forgotten: {why}", remedy=remedy)
