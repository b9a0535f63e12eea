"""A server with routes made for the tests of the adapter."""

from datetime import timedelta

import pytest

from librarian.states import Role
from tests.site_fixtures import create_account, opened_site, served
from tests.web.toy_routes import ROUTES


@pytest.fixture
async def server(sqlite_url, tmp_path):
    async with opened_site(sqlite_url, tmp_path / "site") as site:
        await create_account(site, "reader", Role.READER)
        limits = site.settings.limits.model_copy(update={"read_timeout": timedelta(milliseconds=50)})
        site.settings = site.settings.model_copy(update={"limits": limits})
        async with served(site, routes=ROUTES, body_time=timedelta(milliseconds=200)) as live:
            yield live
