"""Accounts over HTTP."""

import pytest

SECRET = "a very secret horse"


async def create(live, name="ana", roles=("reader",), password=SECRET):
    return await live.call("POST", "/api/v1/accounts", body={"name": name, "password": password, "roles": list(roles)})


async def test_a_created_account_may_log_in_at_once(live_server):
    created = await create(live_server)

    reply = await live_server.call("GET", "/api/v1/site", user="ana", password=SECRET)

    assert (created.status, reply.status) == (201, 200)
    assert created.json["roles"] == ["reader"]
    assert (await live_server.call("GET", "/api/v1/accounts/ana")).json == created.json


async def test_a_name_is_given_once(live_server):
    await create(live_server)

    again = await create(live_server)

    assert (again.status, again.json["code"]) == (409, "conflict")


async def test_accounts_are_listed_by_name_without_their_hashes(live_server):
    reply = await live_server.call("GET", "/api/v1/accounts")

    assert [each["name"] for each in reply.json["accounts"]] == ["admin", "callback", "reader", "uploader", "upstream"]
    assert b"argon2" not in reply.raw


@pytest.mark.parametrize(
    "body",
    [
        {"name": "ana", "password": "tiny", "roles": ["reader"]},
        {"name": "ana", "password": SECRET, "roles": []},
        {"name": "ana", "password": SECRET, "roles": ["emperor"]},
        {"name": "Ana Maria", "password": SECRET, "roles": ["reader"]},
        {"name": "ana", "password": 12345678, "roles": ["reader"]},
        {"name": "ana", "password": SECRET},
    ],
)
async def test_an_impossible_account_is_refused_without_repeating_the_password(live_server, body):
    reply = await live_server.call("POST", "/api/v1/accounts", body=body)

    assert reply.status == 400
    assert SECRET.encode() not in reply.raw
    assert b"12345678" not in reply.raw


async def test_a_new_password_works_at_once_and_the_old_no_longer(live_server):
    await create(live_server)
    await live_server.call("GET", "/api/v1/site", user="ana", password=SECRET)

    changed = await live_server.call("PATCH", "/api/v1/accounts/ana", body={"password": "another horse"})

    old = await live_server.call("GET", "/api/v1/site", user="ana", password=SECRET)
    new = await live_server.call("GET", "/api/v1/site", user="ana", password="another horse")
    assert (changed.status, old.status, new.status) == (200, 401, 200)


async def test_a_role_that_is_taken_away_is_gone_at_once(live_server):
    await create(live_server, roles=["admin"])
    await live_server.call("GET", "/api/v1/accounts", user="ana", password=SECRET)

    await live_server.call("PATCH", "/api/v1/accounts/ana", body={"roles": ["reader"]})

    assert (await live_server.call("GET", "/api/v1/accounts", user="ana", password=SECRET)).status == 403


async def test_a_disabled_account_is_out_until_it_is_enabled(live_server):
    await create(live_server)
    await live_server.call("GET", "/api/v1/site", user="ana", password=SECRET)

    await live_server.call("PATCH", "/api/v1/accounts/ana", body={"is_enabled": False})
    out = await live_server.call("GET", "/api/v1/site", user="ana", password=SECRET)
    await live_server.call("PATCH", "/api/v1/accounts/ana", body={"is_enabled": True})
    back = await live_server.call("GET", "/api/v1/site", user="ana", password=SECRET)

    assert (out.status, back.status) == (401, 200)


@pytest.mark.parametrize("change", [{"is_enabled": False}, {"roles": ["reader"]}], ids=["disabled", "demoted"])
async def test_the_last_admin_stays(live_server, change):
    reply = await live_server.call("PATCH", "/api/v1/accounts/admin", body=change)

    assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert (await live_server.call("GET", "/api/v1/accounts")).status == 200


@pytest.mark.parametrize("change", [{}, {"is_enabled": None}, {"name": "bob"}, {"password": "tiny"}])
async def test_a_change_that_says_nothing_or_nonsense_is_refused(live_server, change):
    reply = await live_server.call("PATCH", "/api/v1/accounts/reader", body=change)

    assert reply.status == 400


async def test_an_unknown_account_is_not_found(live_server):
    shown = await live_server.call("GET", "/api/v1/accounts/nobody")
    changed = await live_server.call("PATCH", "/api/v1/accounts/nobody", body={"is_enabled": True})

    assert (shown.status, changed.status) == (404, 404)


async def test_the_story_of_an_account_tells_who_did_what_and_no_secret(live_server):
    await create(live_server)
    await live_server.call(
        "PATCH", "/api/v1/accounts/ana", body={"password": "another horse", "roles": ["uploader"], "is_enabled": False}
    )

    async with live_server.site.catalog.read() as tx:
        story = await tx.events.story_of("account:ana")

    assert [(event.what, event.who, event.why) for event in story] == [
        ("created", "admin", "reader"),
        ("roles changed", "admin", "uploader"),
        ("password changed", "admin", ""),
        ("disabled", "admin", ""),
    ]


async def test_passwords_show_in_no_log(live_server, caplog):
    caplog.set_level("DEBUG")

    await create(live_server)
    await create(live_server, password="tiny")
    await live_server.call("GET", "/api/v1/site", user="ana", password=SECRET)
    await live_server.call("GET", "/api/v1/site", user="ana", password="wrong secret horse")

    assert SECRET not in caplog.text
    assert "wrong secret horse" not in caplog.text
