"""Sites whose one store stands on a disk of its own, which may fill up, go away, hang, or belong to others as well."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from librarian.auth import Doorkeeper
from librarian.settings import Limits, Settings, StoreSettings
from librarian.site import Site, open_site
from tests.site_fixtures import CHEAP


@asynccontextmanager
async def site_on(disk: Path, state: Path, database: str, **store: object) -> AsyncIterator[Site]:
    """A site with the store "fast" on *disk* (and "slow" beside *state*); *store* are more settings of "fast"."""
    state.mkdir(exist_ok=True)
    fast = StoreSettings.model_validate(
        {"name": "fast", "root": disk / "root", "staging": disk / "staging", **store}, strict=False
    )
    slow = StoreSettings(name="slow", root=state / "slow", staging=state / "slow-staging")
    settings = Settings(
        name="chajnantor", state=state, database=database, stores=(fast, slow), limits=Limits(workers=1)
    )
    async with open_site(settings) as site:
        site.doorkeeper = Doorkeeper(site.catalog, hasher=CHEAP)
        async with site.catalog.begin() as tx:
            # What is opened goes to "fast", unless a test opens the other one.
            await tx.stores.set_open(slow.name, is_open=False)
        yield site
