"""Checkup: looks at everything that two sites need of each other, and says what would help where it fails."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import uuid
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from librarian import entry_points
from librarian.catalog.due_totals import due_subject
from librarian.checksum import Algorithm
from librarian.errors import Forbidden, LibrarianError, ProtocolMismatch, Unauthenticated
from librarian.names import Token
from librarian.preflight import preflight
from librarian.states import Kind, Reach, Role
from librarian.stores.places import PROBE_PREFIX
from librarian.timing import utc_now
from librarian.transfers.base import Item, Job, Phase, Progress
from librarian.wire.base import PROTOCOL
from librarian.wire.checkup import Checkup, Finding

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from librarian.catalog.records import EntryPoint, Peer
    from librarian.names import SiteName
    from librarian.site import Site
    from librarian.stores.base import Store
    from librarian.transfers.base import TransferEngine
    from librarian.wire.checkup import ProbeRead, ProbeStaged
    from librarian.wire.peers import OfferedSite

#: Clocks that differ by more disturb people who compare logs; by much more, certificates and logins elsewhere.
CLOCK_WARNS: Final = timedelta(seconds=5)
CLOCK_FAILS: Final = timedelta(minutes=5)
#: How long an engine has for a probe.
PROBE_TIME: Final = timedelta(seconds=60)
#: How soon it is asked again how far it is: first, and at last.
LOOK_AGAIN: Final = timedelta(milliseconds=50)
LONGEST_PAUSE: Final = timedelta(seconds=2)
PROBE_BYTES: Final = 4096
_SEVERITY: Final = ("ok", "warning", "failed")


async def check(site: Site, name: SiteName) -> Checkup:
    """Look at the peer *name*: reach, protocol, clock, both logins, entry points, engines, room."""
    async with site.catalog.read() as tx:
        peer = await tx.peers.get(name)
        due = await tx.tallies.of(due_subject(peer.id))
    asked_at = utc_now()
    try:
        offered = await site.neighbours.look_again(name)
    except LibrarianError as error:
        return _report(name, [_unreached(peer, error)])
    findings = [
        _reached(peer),
        _ok("protocol", f"both speak protocol {PROTOCOL}"),
        _clock(offered.now, asked_at, utc_now()),
        _our_login(peer, offered),
        await _their_login(site, peer),
    ]
    if not offered.roles or Role.UPSTREAM in offered.roles:
        findings += await _ways(site, peer, offered, due_bytes=due.bytes)
    return _report(name, findings)


def _report(name: SiteName, findings: list[Finding]) -> Checkup:
    worst = max((finding.verdict for finding in findings), key=_SEVERITY.index)
    return Checkup(name=name, verdict=worst, findings=findings)


def _ok(subject: str, message: str) -> Finding:
    return Finding(subject=subject, verdict="ok", message=message)


def _failed(subject: str, message: str, remedy: str) -> Finding:
    return Finding(subject=subject, verdict="failed", message=message, remedy=remedy)


def _warning(subject: str, message: str, remedy: str) -> Finding:
    return Finding(subject=subject, verdict="warning", message=message, remedy=remedy)


def _unreached(peer: Peer, error: LibrarianError) -> Finding:
    match error:
        case ProtocolMismatch():
            theirs = error.details.get("protocol", "another")
            message = f"{peer.name} speaks protocol {theirs}, this site protocol {PROTOCOL}"
            return _failed("protocol", message, "Bring both sites to the same release.")
        case Unauthenticated() | Forbidden():
            return _failed(
                "our login",
                f"{peer.name} does not let us in as {peer.username!r}: {error.message}",
                f"Pair again: 'peer invite' at the site that can be reached, 'peer join' at the other. {error.remedy}",
            )
    return _failed("reach", error.message, error.remedy or "Check the URL, the network, and that it runs.")


def _reached(peer: Peer) -> Finding:
    if peer.reach is Reach.POLL:
        return _ok("reach", f"{peer.name} cannot be called from here; it fetches, and answers")
    return _ok("reach", f"{peer.name} answers at {peer.url}")


def _clock(theirs: datetime | None, before: datetime, after: datetime) -> Finding:
    if theirs is None:
        return _warning("clock", "the peer does not tell its time", "Bring both sites to the same release.")
    ahead = max(timedelta(0), theirs - after)
    behind = max(timedelta(0), before - theirs)
    difference = max(ahead, behind)
    seconds = f"{difference.total_seconds():.1f} s {'ahead of' if ahead else 'behind'} ours"
    if difference <= CLOCK_WARNS:
        return _ok("clock", "the clocks agree" if not difference else f"its clock is {seconds}")
    verdict = _failed if difference > CLOCK_FAILS else _warning
    return verdict("clock", f"its clock is {seconds}", "Let both machines follow a time server (NTP).")


def _our_login(peer: Peer, offered: OfferedSite) -> Finding:
    if offered.name != peer.name:
        return _failed(
            "our login",
            f"the site that answers is called {offered.name!r}",
            "The URL leads to another site: pair again, or run 'peer add' with the right URL.",
        )
    return _ok("our login", f"{peer.name} lets us in as {peer.username}, with {', '.join(offered.roles) or 'no role'}")


async def _their_login(site: Site, peer: Peer) -> Finding:
    subject = "its login"
    if peer.is_fetched:
        return _ok(subject, f"{peer.name} cannot call this site; we fetch what it has to say")
    if peer.reach is Reach.POLL:
        # It has fetched our question just now, and answered it.
        return _ok(subject, f"{peer.name} fetches here as {peer.name}")
    try:
        called = await site.neighbours.ask_callback(peer.name)
    except LibrarianError as error:
        return _warning(subject, f"{peer.name} cannot be asked to call us: {error.message}", error.remedy)
    if called.works:
        return _ok(subject, f"{peer.name} has called this site")
    return _failed(
        subject,
        f"{peer.name} cannot call this site: {called.reason}",
        called.remedy or "Check this site's public URL there, and the firewall here; or pair again.",
    )


async def _ways(site: Site, peer: Peer, offered: OfferedSite, *, due_bytes: int) -> list[Finding]:
    """How files can go there: entry points, and a probe through each engine."""
    points = await entry_points.usable(offered)
    findings = [_points(peer, points)]
    for point in peer.entry_points:
        findings += await _way(site, peer, point, is_offered=point in points, due_bytes=due_bytes)
    return findings


def _points(peer: Peer, offered: tuple[EntryPoint, ...]) -> Finding:
    subject, remedy = "entry points", f"Look whether that is meant, then run: peer check {peer.name} --accept"
    if entry_points.is_changed(peer.entry_points, offered=offered):
        new = [
            f"store '{point.store}' by {point.engine}: {' '.join(filter(None, (point.address, point.staging)))}"
            for point in offered
            if point not in peer.entry_points
        ]
        return _failed(subject, f"{peer.name} offers what was not pinned: {', '.join(new)}", remedy)
    if peer.held_because is not None:
        return _failed(subject, f"{peer.name} is held: {peer.held_because}", remedy)
    if not peer.entry_points:
        return _failed(subject, f"no store of {peer.name} can be reached", "See there that a store is open and well.")
    return _ok(subject, f"the {len(peer.entry_points)} that were pinned are offered, and no others")


async def _way(site: Site, peer: Peer, point: EntryPoint, *, is_offered: bool, due_bytes: int) -> list[Finding]:
    subject = f"{point.engine} to {point.store}"
    if not is_offered:
        return [_warning(subject, "it is not offered now", "See there that the store is open and well.")]
    (look,) = preflight(peer, site.engines, source=None, destination=point.store, wanted=(point.engine,)).looks
    if look.why_not:
        return [_warning(subject, look.why_not, look.remedy)]
    engine = site.engines[point.engine]
    source = next((store for store in site.stores.fixed() if store.problem is None and engine.reads(store.name)), None)
    if source is None:
        remedy = f"Say in the settings of a store where {point.engine} finds it, and see that the store is well."
        return [_warning(subject, "it can read no store of ours", remedy)]
    try:
        return await _probe(site, peer, point, source=source, due_bytes=due_bytes)
    except LibrarianError as error:
        return [_failed(subject, f"the probe failed: {error.message}", error.remedy)]


async def _probe(site: Site, peer: Peer, point: EntryPoint, *, source: Store, due_bytes: int) -> list[Finding]:
    """Bring a nested probe by the engine, from where published files stand; the peer reads and removes it."""
    subject = f"{point.engine} to {point.store}"
    # The prefix is the stores' own: no file can have such a name.
    laid = source.root / f"{PROBE_PREFIX}-{secrets.token_hex(8)}"
    staged = await site.neighbours.ask_probe(peer.name, point.store, size=PROBE_BYTES)
    try:
        await source.read(partial(_lay, laid))
        measured = await site.pool.measure(laid, Algorithm.XXH3)
        progress = await _carry(site.engines[point.engine], _job(peer, point, Token(staged.token), laid))
    finally:
        await source.read(partial(shutil.rmtree, laid, ignore_errors=True))
        read = await site.neighbours.read_probe(peer.name, staged.token)
    room = _room(point, staged, due_bytes=due_bytes)
    return [_probed(subject, peer, progress, read, is_equal=read.checksum == measured.checksum), room]


def _lay(top: Path) -> None:
    deepest = top / "nested" / "deeper"
    deepest.mkdir(parents=True)
    probe = deepest / "probe"
    probe.write_bytes(os.urandom(PROBE_BYTES))
    # As published files are: who reads them is often another user.
    probe.chmod(0o444)
    for folder in (top, deepest.parent, deepest):
        folder.chmod(0o755)


def _job(peer: Peer, point: EntryPoint, token: Token, source: Path) -> Job:
    item = Item(uuid=str(uuid.uuid4()), token=token, source=source, kind=Kind.BOOK, size=PROBE_BYTES)
    return Job(peer=peer.name, store=point.store, address=point.address, staging=point.staging, items=(item,))


async def _carry(engine: TransferEngine, job: Job) -> Progress:
    """Move *job*; what it came to within ``PROBE_TIME``. What has not ended then is stopped."""
    await engine.look(job)
    handle = await engine.submit(job, await engine.prepare())
    progress = Progress(phase=Phase.UNKNOWN, reason="it did not end in time")
    with suppress(TimeoutError):
        async with asyncio.timeout(PROBE_TIME.total_seconds()):
            pause = LOOK_AGAIN
            while progress.phase in (Phase.UNKNOWN, Phase.ACTIVE):
                await asyncio.sleep(pause.total_seconds())
                pause = min(pause * 1.5, LONGEST_PAUSE)
                progress = (await engine.inspect([handle])).get(handle, progress)
    if progress.phase not in (Phase.SUCCEEDED, Phase.FAILED):
        await engine.cancel(handle)
    return progress


def _probed(subject: str, peer: Peer, progress: Progress, read: ProbeRead, *, is_equal: bool) -> Finding:
    if progress.phase is Phase.ACTIVE:
        reason = progress.reason or "it takes its time"
        return _warning(subject, f"the probe was not there in {PROBE_TIME}: {reason}", "Check again in a while.")
    if progress.phase is not Phase.SUCCEEDED or progress.failed_items:
        reason = "; ".join([progress.reason, *progress.failed_items.values()]).strip("; ") or progress.phase.value
        return _failed(subject, f"the probe did not arrive: {reason}", progress.remedy or "See the engine's how-to.")
    if not is_equal:
        reason = read.reason or "it read other bytes than were sent"
        return _failed(subject, f"{peer.name} cannot read the probe: {reason}", "Check owner and mode of its staging.")
    if not read.is_removed:
        return _warning(
            subject,
            f"{peer.name} read the probe, and could not remove it",
            "Give the librarian there write permission on what others bring: group and mode of its staging.",
        )
    return _ok(subject, f"a probe was brought, read and removed by {peer.name}")


def _room(point: EntryPoint, staged: ProbeStaged, *, due_bytes: int) -> Finding:
    subject = f"room on {point.store}"
    message = f"{staged.free_bytes:,} bytes are free there, {due_bytes:,} are due"
    if staged.free_bytes < due_bytes:
        return _warning(subject, message, "Free space there, or add a store; what does not fit waits.")
    return _ok(subject, message)
