"""Replacing: a good payload takes the place of a copy that was found corrupt, and whose bytes are kept aside.

Corrupt bytes stand under the file's name, where nothing is ever overwritten. They are moved away when all of this
holds, and by no other code: the catalog has the copy down as corrupt, which takes two readings, the second one past
the page cache; what stands there was measured just now, and is not what the file is; and what waits in staging was
measured, and is. They are moved into quarantine, under a name that does not expire. A crash in between leaves the name
free, and the next pass publishes.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from librarian.errors import StoreUnavailable, Unavailable
from librarian.states import Presence
from librarian.stores.base import BadCopy
from librarian.tasks import verifying
from librarian.tasks.verifying import Bad, Good, Later

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.records import Incoming
    from librarian.catalog.transaction import Transaction
    from librarian.names import FileName, StoreName
    from librarian.site import Site
    from librarian.stores.base import Store
    from librarian.tasks.verifying import Outcome

log = logging.getLogger(__name__)


async def replace_bad_copies(site: Site, store: Store, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Publish good payloads in the place of corrupt copies; returns *outcomes* as they are then.

    Only what was found in the way of a good payload costs anything.
    """
    in_the_way = {each.transfer.name: each.transfer for each in outcomes if isinstance(each, Bad) and each.is_hindered}
    if not in_the_way:
        return list(outcomes)
    async with site.catalog.read() as tx:
        standing = await _presence(tx, store.name, list(in_the_way.values()))
    replaced: dict[FileName, Outcome] = {
        name: Later(transfer=in_the_way[name], error=_undecided(name, store.name))
        for name, presence in standing.items()
        if presence is Presence.SUSPECT
    }
    bad = [BadCopy(name=name) for name, presence in standing.items() if presence is Presence.CORRUPT]
    kept: dict[FileName, str] = {}
    for copy, place in zip(bad, await store.set_bad_aside(bad), strict=True):
        if isinstance(place, str):
            kept[copy.name] = place
            log.warning("Set the corrupt copy of %s on %s aside: %s", copy.name, store.name, place)
        elif isinstance(place, Unavailable):
            replaced[copy.name] = Later(transfer=in_the_way[copy.name], error=place)
        else:
            replaced[copy.name] = Bad(transfer=in_the_way[copy.name], error=place, alerts=True)
    for again in await verifying.verify(store, site.pool, [in_the_way[name] for name in kept]):
        name = again.transfer.name
        replaced[name] = replace(again, set_aside=kept[name]) if isinstance(again, Good) else again
    return [replaced.get(each.transfer.name, each) for each in outcomes]


async def _presence(tx: Transaction, store: StoreName, transfers: Sequence[Incoming]) -> dict[FileName, Presence]:
    """What the catalog knows of the copies on *store* of the files that *transfers* bring: exactly those files."""
    files = await tx.files.named([transfer.name for transfer in transfers])
    brought = {
        file.id: file.name
        for transfer in transfers
        if (file := files.get(transfer.name)) is not None
        and (file.kind, file.size, file.checksum) == (transfer.kind, transfer.size, transfer.checksum)
    }
    copies = await tx.instances.of_files(list(brought))
    return {brought[copy.file_id]: copy.presence for copy in copies if copy.store == store}


def _undecided(name: FileName, store: StoreName) -> StoreUnavailable:
    return StoreUnavailable(
        f"what stands under {name!r} on store {store} may be bad, and is being read again",
        remedy="It goes on by itself once that is known.",
    )
