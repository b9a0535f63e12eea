"""Every route × every role × no credentials, against one table that is written out here."""

import pytest

from librarian.states import Role
from librarian.web import openapi
from librarian.web.table import ALL_ROUTES
from tests.site_fixtures import create_account, opened_site, served

ANYBODY = frozenset({None, "admin", "uploader", "reader", "upstream", "callback"})
ADMIN = frozenset({"admin"})
UPLOADERS = frozenset({"admin", "uploader"})
READERS = frozenset({"admin", "uploader", "reader"})
UPSTREAM = frozenset({"upstream"})
CALLBACK = frozenset({"callback"})
PEERS = UPSTREAM | CALLBACK

#: Who may call what; who may GET may HEAD. A route that is not in here fails the tests: think before you add it.
PERMITTED = {
    "GET /healthz": ANYBODY,
    "GET /readyz": ANYBODY,
    "GET /openapi.json": ANYBODY,
    "GET /docs": ANYBODY,
    "GET /docs/{asset}": ANYBODY,
    "GET /api/v1/site": READERS | PEERS,
    "GET /api/v1/status": READERS,
    "POST /api/v1/site/restored": ADMIN,
    "GET /api/v1/alerts": ADMIN,
    "POST /api/v1/alerts/acknowledge": ADMIN,
    "POST /api/v1/notifications/test": ADMIN,
    "GET /api/v1/stores": READERS,
    "POST /api/v1/stores/{name}/open": ADMIN,
    "POST /api/v1/stores/{name}/close": ADMIN,
    "GET /api/v1/drives": READERS,
    "GET /api/v1/status/drives": READERS,
    "GET /drives": READERS,
    "POST /api/v1/drives": ADMIN,
    "GET /api/v1/drives/{name}": READERS,
    "POST /api/v1/drives/{name}/attach": ADMIN,
    "POST /api/v1/drives/{name}/seal": ADMIN,
    "POST /api/v1/drives/{name}/release": ADMIN,
    "POST /api/v1/drives/{name}/lost": ADMIN,
    "POST /api/v1/drives/{name}/reuse": ADMIN,
    "GET /api/v1/drives/{name}/slip": READERS,
    "GET /api/v1/drives/{name}/manifest": READERS,
    "GET /api/v1/receptions": ADMIN,
    "POST /api/v1/receptions": ADMIN,
    "GET /api/v1/receptions/{name}": ADMIN,
    "GET /api/v1/receptions/{name}/bad": ADMIN,
    "POST /api/v1/receptions/{name}/cancel": ADMIN,
    "GET /api/v1/files": READERS,
    "GET /api/v1/files/{name}": READERS,
    "GET /api/v1/members/{name}": READERS,
    "GET /api/v1/content/{name}": READERS,
    "POST /api/v1/uploads": UPLOADERS,
    "POST /api/v1/uploads/commit": UPLOADERS,
    "GET /api/v1/uploads/{id}": UPLOADERS,
    "DELETE /api/v1/uploads/{id}": UPLOADERS,
    "POST /api/v1/uploads/{id}/commit": UPLOADERS,
    "PUT /api/v1/uploads/{id}/content": UPLOADERS,
    "HEAD /api/v1/uploads/{id}/content": UPLOADERS,
    "PUT /api/v1/uploads/{id}/content/{member}": UPLOADERS,
    "HEAD /api/v1/uploads/{id}/content/{member}": UPLOADERS,
    "GET /api/v1/accounts": ADMIN,
    "POST /api/v1/accounts": ADMIN,
    "GET /api/v1/accounts/{name}": ADMIN,
    "PATCH /api/v1/accounts/{name}": ADMIN,
    "GET /api/v1/peers": ADMIN,
    "GET /api/v1/peers/{name}": ADMIN,
    "PUT /api/v1/peers/{name}": ADMIN,
    "PATCH /api/v1/peers/{name}": ADMIN,
    "DELETE /api/v1/peers/{name}": ADMIN,
    "GET /api/v1/notices": ADMIN,
    "POST /api/v1/notices/retry": ADMIN,
    "POST /api/v1/notices/drop": ADMIN,
    "POST /api/v1/peers/{name}/rotate": ADMIN,
    "POST /api/v1/clones/credentials": PEERS,
    "POST /api/v1/peers/{name}/check": ADMIN,
    "POST /api/v1/clones/callback": PEERS,
    "POST /api/v1/clones/probe": UPSTREAM,
    "POST /api/v1/clones/probe/read": UPSTREAM,
    "POST /api/v1/invitations": ADMIN,
    "POST /api/v1/pairings": ADMIN,
    "POST /api/v1/pairings/redeem": ANYBODY,
    "POST /api/v1/pairings/confirm": ANYBODY,
    "GET /api/v1/pairings/{knock}": ANYBODY,
    "GET /api/v1/rules": ADMIN,
    "GET /api/v1/rules/{name}": ADMIN,
    "PUT /api/v1/rules/{name}": ADMIN,
    "DELETE /api/v1/rules/{name}": ADMIN,
    "GET /api/v1/rules/{name}/why": ADMIN,
    "GET /api/v1/transfers": ADMIN,
    "GET /api/v1/transfers/stopped": ADMIN,
    "POST /api/v1/transfers/retry": ADMIN,
    "POST /api/v1/transfers/cancel": ADMIN,
    "GET /api/v1/transfers/{uuid}": ADMIN,
    "GET /api/v1/why/{name}": ADMIN,
    "POST /api/v1/clones": UPSTREAM,
    "POST /api/v1/clones/content": UPSTREAM,
    "POST /api/v1/clones/content/state": UPSTREAM,
    "POST /api/v1/clones/notices": PEERS,
    "POST /api/v1/clones/states": PEERS,
    "GET /api/v1/clones/inbox": PEERS,
    "POST /api/v1/clones/inbox/answers": PEERS,
    "GET /api/v1/clones/{uuid}": PEERS,
}


def key_of(route):
    return f"{route.method} {openapi.path_of(route)}"


def path_to(route):
    path = openapi.path_of(route)
    for name in openapi.placeholders_of(route):
        path = path.replace(f"{{{name}}}", "x")
    return path


def lets_in(reply):
    """Whether the door was passed. An account without its peer is refused behind it, where no roles are named."""
    return reply.status != 401 and not (reply.status == 403 and (not reply.raw or "roles" in reply.json["details"]))


@pytest.fixture
async def server(sqlite_url, tmp_path):
    async with opened_site(sqlite_url, tmp_path / "site") as site:
        for role in Role:
            await create_account(site, role.value, role)
        async with served(site) as live:
            yield live


def test_the_table_names_every_route_and_nothing_else():
    assert sorted(key_of(route) for route in ALL_ROUTES) == sorted(PERMITTED)


@pytest.mark.parametrize("user", [None, *(role.value for role in Role)])
async def test_a_role_opens_exactly_what_the_table_says(server, user):
    wrong = {}
    for route in ALL_ROUTES:
        reply = await server.call(route.method, path_to(route), user=user)
        if lets_in(reply) != (user in PERMITTED[key_of(route)]):
            wrong[key_of(route)] = reply.status

    assert wrong == {}


@pytest.mark.parametrize("user", [None, *(role.value for role in Role)])
async def test_head_is_answered_as_get_is_to_everybody_without_the_body(server, user):
    wrong = {}
    for path in [path_to(route) for route in ALL_ROUTES if route.method == "GET"]:
        get, head = [await server.call(method, path, user=user) for method in ("GET", "HEAD")]
        if (head.status, head.raw) != (get.status, b""):
            wrong[path] = head.status

    assert wrong == {}


async def test_what_is_refused_is_refused_before_anything_is_looked_at(server):
    replies = [
        await server.call("POST", "/api/v1/accounts", user="reader", data=b"{" * 1000),
        await server.call("GET", "/api/v1/files?limit=nonsense", user="callback"),
        await server.call("POST", "/api/v1/stores/no such store/open".replace(" ", "%20"), user="reader"),
    ]

    assert [reply.status for reply in replies] == [403, 403, 403]


async def test_several_roles_open_what_each_of_them_opens(server):
    await create_account(server.site, "both", Role.READER, Role.CALLBACK)

    replies = [await server.call("GET", path, user="both") for path in ("/api/v1/site", "/api/v1/stores")]

    assert [reply.status for reply in replies] == [200, 200]


async def test_wrong_passwords_unknown_names_and_disabled_accounts_open_nothing(server):
    await create_account(server.site, "off", Role.ADMIN)
    async with server.site.catalog.begin() as tx:
        await tx.accounts.change("off", is_enabled=False)

    replies = [
        await server.call("GET", "/api/v1/site", user="admin", password="wrong horse"),
        await server.call("GET", "/api/v1/site", user="nobody"),
        await server.call("GET", "/api/v1/site", user="off"),
    ]

    assert [reply.status for reply in replies] == [401, 401, 401]
    assert len({(reply.json["code"], reply.json["message"], reply.json["remedy"]) for reply in replies}) == 1
