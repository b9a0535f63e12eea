"""Stores: see them, open them for new files, close them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian.catalog.records import Happening
from librarian.errors import Conflict, LibrarianError, NotFound
from librarian.names import StoreName
from librarian.patience import unless_slow
from librarian.states import Role
from librarian.web.route import Answer, Call, Route
from librarian.wire.stores import StoreDescription, StoreList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.records import StoreRecord
    from librarian.site import Site
    from librarian.stores.base import Capacity, Store

#: A store that does not tell its capacity for this long is reported as it is: silent.
PATIENCE: Final = timedelta(seconds=3)


async def describe_all(site: Site, rows: Sequence[StoreRecord]) -> list[StoreDescription]:
    """Describe every store of *rows*; one that hangs delays the answer by a few seconds and is reported so."""
    stores = {store.name: store for store in site.stores.all()}
    return list(await asyncio.gather(*(_describe(row, stores.get(row.name)) for row in rows)))


async def _describe(row: StoreRecord, store: Store | None) -> StoreDescription:
    if store is None:
        return _description(row, store=None, capacity=None, problem="the settings do not name it")
    problem = store.problem
    capacity: Capacity | None = None
    try:
        capacity = await unless_slow(store.capacity(), patience=PATIENCE)
    except TimeoutError:
        problem = problem or f"it does not answer for {PATIENCE.total_seconds():g} s"
    except LibrarianError as error:
        problem = problem or error.message
    return _description(row, store=store, capacity=capacity, problem=problem)


def _description(
    row: StoreRecord, *, store: Store | None, capacity: Capacity | None, problem: str | None
) -> StoreDescription:
    return StoreDescription(
        name=row.name,
        kind=row.kind,
        uuid=row.uuid,
        root=str(store.root) if store else None,
        staging=str(store.staging) if store else None,
        is_open=row.is_open,
        total_bytes=capacity.total_bytes if capacity else None,
        free_bytes=capacity.free_bytes if capacity else None,
        problem=problem,
    )


async def list_stores(call: Call[None, None]) -> Answer:
    """Every store but the drives, by name."""
    async with call.site.catalog.read() as tx:
        rows = [row for row in await tx.stores.all() if row.kind != "drive"]
    return Answer(body=StoreList(stores=await describe_all(call.site, rows)))


async def open_store(call: Call[None, None]) -> Answer:
    """Let new files go to the store. A repeat does nothing."""
    return await _switch(call, is_open=True)


async def close_store(call: Call[None, None]) -> Answer:
    """Let no new files go to the store; what it holds stays readable. A repeat does nothing."""
    return await _switch(call, is_open=False)


async def _switch(call: Call[None, None], *, is_open: bool) -> Answer:
    name = call.request.match_info["name"]
    async with call.site.catalog.begin() as tx:
        before = (await tx.stores.by_name()).get(StoreName(name))
        if before is None:
            raise NotFound(f"no store is called {name!r}", remedy="See 'store list' for the names.")
        if before.kind == "drive":
            raise Conflict(f"{name!r} is a drive", remedy="A drive takes files until it is sealed: see 'drive list'.")
        row = await tx.stores.set_open(before.name, is_open=is_open)
        if before.is_open != is_open:
            what = "opened" if is_open else "closed"
            await tx.events.tell([Happening(subject=f"store:{row.name}", what=what, who=call.caller.name)])
    return Answer(body=(await describe_all(call.site, [row]))[0])


_TAG: Final = "stores"
ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/stores",
        handler=list_stores,
        summary="Every store with its capacity, identity and problem",
        roles=frozenset({Role.READER}),
        answer=StoreList,
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/stores/{name}/open",
        handler=open_store,
        summary="Let new files go to a store",
        roles=frozenset({Role.ADMIN}),
        answer=StoreDescription,
        refusals=(NotFound, Conflict),
        tag=_TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/stores/{name}/close",
        handler=close_store,
        summary="Let no new files go to a store",
        roles=frozenset({Role.ADMIN}),
        answer=StoreDescription,
        refusals=(NotFound, Conflict),
        tag=_TAG,
    ),
)
