"""Two sites come to know each other by an invitation, whatever fails meanwhile."""

import hashlib
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from pydantic import SecretStr

from librarian.errors import PeerUnavailable
from librarian.keys import SigningKey
from librarian.states import Role
from librarian.timing import utc_now
from librarian.wire.pairing import read_token, write_token
from tests.clone_fixtures import pair, party
from tests.crash.harness import free_port
from tests.site_fixtures import create_account

NAMES = ["2026/one", "2026/two"]


@asynccontextmanager
async def reachable(url, folder, name, *, public_url=None, **options):
    """A site that tells others where it is; *public_url*: where it is not."""
    port = free_port()
    told = public_url or f"{'https' if options.get('certificate') else 'http'}://127.0.0.1:{port}"

    def change(settings):
        return settings.model_copy(update={"public_url": told})

    async with party(url, folder, name, port=port, change=change, **options) as opened:
        yield opened


@pytest.fixture
async def strangers(urls, tmp_path):
    """chajnantor and nersc, which do not know each other yet."""
    async with (
        reachable(urls[0], tmp_path / "chajnantor", "chajnantor") as inviter,
        reachable(urls[1], tmp_path / "nersc", "nersc") as joiner,
    ):
        yield inviter, joiner


@pytest.fixture
async def closed_in(urls, tmp_path):
    """chajnantor, and nersc, which nobody can call at the URL that it tells."""
    async with (
        reachable(urls[0], tmp_path / "chajnantor", "chajnantor") as inviter,
        reachable(urls[1], tmp_path / "nersc", "nersc", public_url="http://127.0.0.1:9") as joiner,
    ):
        yield inviter, joiner


async def invite(inviter, name="nersc", **more):
    reply = await inviter.live.call("POST", "/api/v1/invitations", body={"name": name, **more})
    assert reply.status == 201, reply.raw
    return reply.json["token"]


async def join(joiner, token, **more):
    return await joiner.live.call("POST", "/api/v1/pairings", body={"token": token, **more})


async def peers_of(party):
    return (await party.live.call("GET", "/api/v1/peers")).json["peers"]


async def known_at(party):
    """What is pinned of the peers of a site, and not how they fare."""
    kept = ("name", "url", "username", "reach", "is_fetched", "accepts", "entry_points")
    return [{key: peer[key] for key in kept} for peer in await peers_of(party)]


async def roles_at(party, name):
    return (await party.live.call("GET", f"/api/v1/accounts/{name}")).json["roles"]


@pytest.mark.parametrize(
    ("direction", "at_inviter", "at_joiner"),
    [
        ("send", ["callback"], ["upstream"]),
        ("receive", ["upstream"], ["callback"]),
        ("both", ["callback", "upstream"], ["callback", "upstream"]),
    ],
)
async def test_each_site_has_the_other_with_the_roles_of_the_direction(strangers, direction, at_inviter, at_joiner):
    inviter, joiner = strangers

    await pair(inviter, joiner, direction=direction)

    assert (await roles_at(inviter, "nersc"), await roles_at(joiner, "chajnantor")) == (at_inviter, at_joiner)
    ((theirs,), (ours,)) = await peers_of(joiner), await peers_of(inviter)
    assert (ours["url"], ours["reach"], ours["is_fetched"]) == (joiner.live.url, "push", False)
    assert (theirs["url"], theirs["reach"], theirs["is_fetched"]) == (inviter.live.url, "push", False)


async def test_files_flow_after_two_commands(strangers):
    inviter, joiner = strangers
    await pair(inviter, joiner)
    await inviter.replicates_to(joiner)

    await inviter.upload({name: name.encode() for name in NAMES})

    await inviter.knows_copies_at(joiner, NAMES)


async def test_each_has_pinned_the_key_of_the_other(strangers):
    inviter, joiner = strangers

    await pair(inviter, joiner)

    async with inviter.site.catalog.read() as ours, joiner.site.catalog.read() as theirs:
        assert await ours.peers.public_key_of("nersc") is not None
        assert await ours.peers.public_key_of("nersc") != await theirs.peers.public_key_of("chajnantor")


async def test_a_site_that_cannot_be_called_back_fetches_and_files_go_both_ways(closed_in):
    inviter, joiner = closed_in
    await pair(inviter, joiner, direction="both")
    await inviter.replicates_to(joiner, match=("2026/*",), engines=("local",))
    await joiner.replicates_to(inviter, match=("calibration/*",), engines=("http",))

    await inviter.upload({name: name.encode() for name in NAMES})
    await joiner.upload({"calibration/bias": b"bias"})

    await inviter.knows_copies_at(joiner, NAMES)
    await joiner.knows_copies_at(inviter, ["calibration/bias"])
    ((ours,), (theirs,)) = await peers_of(inviter), await peers_of(joiner)
    assert (ours["reach"], theirs["is_fetched"]) == ("poll", True)


async def test_the_same_token_again_gives_the_same_and_breaks_nothing(strangers):
    inviter, joiner = strangers
    token = await pair(inviter, joiner)
    before = await known_at(inviter), await known_at(joiner)

    again = await join(joiner, token)

    assert again.status == 200
    assert (await known_at(inviter), await known_at(joiner)) == before
    assert (await joiner.site.neighbours.look_again("chajnantor")).name == "chajnantor"


async def test_a_new_invitation_renews_what_is_there(strangers):
    inviter, joiner = strangers
    await pair(inviter, joiner)

    await pair(inviter, joiner, direction="receive")

    assert await roles_at(inviter, "nersc") == ["upstream"]
    assert (await inviter.site.neighbours.look_again("nersc")).roles == ["callback"]


async def test_another_site_cannot_use_what_was_used(strangers, urls, tmp_path):
    inviter, joiner = strangers
    token = await pair(inviter, joiner)

    async with reachable(urls[2], tmp_path / "impostor", "nersc", tasks=False) as impostor:
        refused = await join(impostor, token)

        assert refused.status == 409
        assert "was used by another site" in refused.json["message"]
        assert await peers_of(impostor) == []


async def test_an_invitation_is_for_the_site_that_it_names(strangers):
    inviter, joiner = strangers
    token = await invite(inviter, "berkeley")

    refused = await join(joiner, token)

    assert refused.status == 409
    assert "is for a site called 'berkeley'" in refused.json["message"]
    assert await peers_of(joiner) == []


async def test_an_expired_invitation_is_refused_at_both_ends(strangers):
    inviter, joiner = strangers
    invitation = read_token(await invite(inviter))
    past = utc_now() - timedelta(seconds=1)
    async with inviter.site.catalog.begin() as tx:
        await tx.pairings.forget("nersc")
        await tx.pairings.add(
            hashlib.sha256(invitation.secret.get_secret_value().encode()).hexdigest(),
            name="nersc",
            is_ours=True,
            direction="send",
            accepts=None,
            expires_at=past,
        )

    by_inviter = await join(joiner, write_token(invitation))
    by_joiner = await join(joiner, write_token(invitation.model_copy(update={"expires_at": past})))

    assert (by_inviter.status, by_joiner.status) == (400, 400)
    assert "the invitation has expired" in by_inviter.json["message"]
    assert "the invitation expired at" in by_joiner.json["message"]


async def test_an_invitation_of_a_peer_that_was_removed_is_worth_nothing(strangers):
    inviter, joiner = strangers
    token = await invite(inviter)
    async with inviter.site.catalog.begin() as tx:
        await tx.pairings.forget("nersc")

    refused = await join(joiner, token)

    assert refused.status == 400
    assert "there is no such invitation" in refused.json["message"]


async def test_an_account_of_a_person_is_not_made_a_peers(strangers):
    inviter, joiner = strangers
    await create_account(inviter.site, "nersc", Role.READER)
    await create_account(joiner.site, "chajnantor", Role.ADMIN)

    refused = await inviter.live.call("POST", "/api/v1/invitations", body={"name": "nersc"})

    assert refused.status == 409
    assert "with the roles reader" in refused.json["message"]


async def test_the_secret_is_kept_as_a_hash_alone(strangers):
    inviter, _ = strangers
    secret = read_token(await invite(inviter)).secret.get_secret_value()

    async with inviter.site.catalog.read() as tx:
        kept = await tx.pairings.find(hashlib.sha256(secret.encode()).hexdigest(), is_ours=True)

    assert (kept.name, kept.terms) == ("nersc", None)
    assert secret not in repr(kept)


async def test_guessing_secrets_is_slowed_down(strangers):
    inviter, joiner = strangers
    token = await invite(inviter)
    wrong = write_token(read_token(token).model_copy(update={"secret": SecretStr("x" * 43)}))

    answers = [(await join(joiner, wrong)).json["message"] for _ in range(7)]

    assert "there is no such invitation" in answers[0]
    assert "too many" in answers[-1]


async def test_an_invitation_that_leads_beyond_loopback_without_tls_is_not_used(strangers):
    inviter, joiner = strangers
    invitation = read_token(await invite(inviter))

    refused = await join(joiner, write_token(invitation.model_copy(update={"url": "http://192.0.2.7:21108"})))

    assert refused.status == 400
    assert "allow_plaintext" in refused.json["remedy"]


async def test_a_site_that_does_not_answer_leaves_nothing_at_the_one_who_joins(strangers):
    inviter, joiner = strangers
    invitation = read_token(await invite(inviter))

    refused = await join(joiner, write_token(invitation.model_copy(update={"url": "http://127.0.0.1:9"})))

    assert (refused.status, refused.json["code"]) == (503, "peer_unavailable")
    assert await peers_of(joiner) == []
    assert (await joiner.live.call("GET", "/api/v1/accounts/chajnantor")).status == 404


async def test_until_the_terms_are_confirmed_the_inviter_has_no_more_than_a_row(strangers, monkeypatch):
    inviter, joiner = strangers
    token = await invite(inviter)

    async def cut_off(*_, **__):
        raise PeerUnavailable("the line was cut")

    monkeypatch.setattr("librarian.joining.finish", cut_off)
    cut = await join(joiner, token)
    halves = await peers_of(inviter), await peers_of(joiner)
    monkeypatch.undo()
    again = await join(joiner, token)

    assert (cut.status, halves) == (503, ([], []))
    assert again.status == 200
    assert [peer["name"] for peer in await peers_of(inviter)] == ["nersc"]
    assert (await inviter.site.neighbours.look_again("nersc")).name == "nersc"


@pytest.mark.parametrize(
    "key", [SigningKey(SigningKey.mint()).public, "A" * 43 + "="], ids=["somebody else's", "of no point"]
)
async def test_what_is_said_before_there_are_accounts_must_be_signed(strangers, key):
    inviter, joiner = strangers
    secret = read_token(await invite(inviter)).secret.get_secret_value()
    body = {
        "secret": secret,
        "site": {"name": "nersc"},
        "url": joiner.live.url,
        "knock": "0" * 32,
        "public_key": key,
        "signature": "A" * 86 + "==",
    }

    redeemed = await inviter.live.call("POST", "/api/v1/pairings/redeem", user=None, body=body)
    confirmed = await inviter.live.call(
        "POST", "/api/v1/pairings/confirm", user=None, body={"secret": secret, "signature": "A" * 86 + "=="}
    )

    assert (redeemed.status, confirmed.status) == (400, 403)
    assert await peers_of(inviter) == []
