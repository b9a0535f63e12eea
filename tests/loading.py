"""Sites that copy what they hold onto other stores of theirs."""

import os
from pathlib import Path

from librarian import replication
from librarian.names import FileName, RuleName, TransferId
from librarian.policies import RulePolicy
from librarian.site import Site
from librarian.states import Presence
from librarian.tasks.backfill import Backfill
from librarian.tasks.load import Load
from librarian.timing import plenty_of_time
from tests.uploading import ingest


async def rule(site: Site, *stores: str, name: str = "copies", **policy: object) -> None:
    """A rule that asks for copies on *stores*, its walk done."""
    asked = RulePolicy.model_validate({"stores": stores, **policy}, strict=False)
    async with site.catalog.begin() as tx:
        await replication.put_rule(tx, RuleName(name), policy=asked, who="admin")
    await Backfill(site).run_pass(plenty_of_time())


async def load(site: Site) -> None:
    """Copy whatever is due, and verify it."""
    await Load(site).run_pass(plenty_of_time())
    await ingest(site)
    # What that was the last of may have filled a drive.
    await Load(site).run_pass(plenty_of_time())


async def dues_of(site: Site, name: str):
    async with site.catalog.read() as tx:
        file = (await tx.files.named([FileName(name)]))[FileName(name)]
        return await tx.copies_due.of_files([file.id])


async def stores_of(site: Site, name: str) -> dict[str, tuple[str, str]]:
    """Where the copies of a file are: presence, and from where each was verified."""
    async with site.catalog.read() as tx:
        file = (await tx.files.named([FileName(name)]))[FileName(name)]
        return {c.store: (c.presence.value, c.verified_from.value) for c in await tx.instances.of_files([file.id])}


async def assert_sound(site: Site, store: str) -> None:
    """What the catalog says of *store* is what stands there, and nothing is left over."""
    here = site.stores.lookup(store)
    async with site.catalog.read() as tx:
        known = {
            file.name
            for file in (await tx.files.named([FileName(name) for name in _published(here.root)])).values()
            for copy in await tx.instances.of_files([file.id])
            if copy.store == store and copy.presence is Presence.PRESENT
        }
        tally = await tx.tallies.of(f"store:{store}")
        live = await tx.claims.live(after=TransferId(0), limit=1)
    assert known == _published(here.root)
    assert tally.files == len(known)
    assert live == []
    assert [entry.name for entry in here.staging.iterdir() if not entry.name.startswith(".")] == []


def _published(root: Path) -> set[str]:
    found = set()
    for folder, _, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        if not any(part.startswith((".librarian", "lost+found")) for part in inside.parts):
            found |= {str(inside / name) for name in names if not name.startswith(".")}
    return found
