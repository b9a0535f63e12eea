"""Peers over TLS: whose certificate must come from the authority that was given, or from one that is trusted."""

import pytest

from librarian.states import Role
from tests.certificates import make_certificate
from tests.clone_fixtures import party
from tests.network.test_pairing import invite, join, reachable
from tests.site_fixtures import create_account, password_of


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
async def pair(urls, tmp_path, certificate):
    """Two sites with accounts at each other; the receiver shows a certificate that this machine does not trust."""
    async with (
        party(urls[0], tmp_path / "a", "chajnantor") as sender,
        party(urls[1], tmp_path / "b", "nersc", certificate=certificate) as receiver,
    ):
        await create_account(receiver.site, sender.name, Role.UPSTREAM)
        await create_account(sender.site, receiver.name, Role.CALLBACK)
        yield sender, receiver


async def adds(sender, receiver, **more):
    body = {"url": receiver.live.url, "username": sender.name, "password": password_of(sender.name)}
    return await sender.live.call("PUT", f"/api/v1/peers/{receiver.name}", body=body | more)


async def test_files_go_to_a_peer_whose_authority_was_given(pair, certificate):
    sender, receiver = pair
    await sender.knows(receiver, authority=certificate.read_text())
    await receiver.knows(sender)
    await sender.upload({"one": b"one" * 1_000_000})

    await sender.replicates_to(receiver, engines=("http",))

    await sender.knows_copies_at(receiver, ["one"])


async def test_a_peer_is_refused_whose_certificate_nobody_vouches_for(pair, stranger):
    answers = [await adds(*pair), await adds(*pair, authority=stranger.read_text())]

    assert [answer.status for answer in answers] == [503, 503]
    assert all("certificate" in answer.json["message"] for answer in answers)


async def test_an_authority_stays_until_another_is_given(pair, certificate):
    given = await adds(*pair, authority=certificate.read_text())
    again = await adds(*pair)
    taken_back = await adds(*pair, authority="")

    assert [given.status, again.status, taken_back.status] == [200, 200, 503]


async def test_what_is_no_certificate_is_refused(pair):
    refused = await adds(*pair, authority="no certificate")

    assert (refused.status, refused.json["code"]) == (400, "bad_request")


async def test_two_sites_pair_over_tls_when_each_knows_the_authority_of_the_other(
    urls, tmp_path, certificate, stranger
):
    async with (
        reachable(urls[0], tmp_path / "a", "chajnantor", certificate=certificate) as inviter,
        reachable(urls[1], tmp_path / "b", "nersc", certificate=stranger) as joiner,
    ):
        token = await invite(inviter, authority=stranger.read_text())

        trusting_nobody = await join(joiner, token)
        joined = await join(joiner, token, authority=certificate.read_text())
        await inviter.replicates_to(joiner, engines=("http",))
        await inviter.upload({"one": b"one"})
        await inviter.knows_copies_at(joiner, ["one"])

    assert (trusting_nobody.status, "certificate" in trusting_nobody.json["message"]) == (503, True)
    assert (joined.status, joined.json["reach"]) == (200, "push")
    assert joined.json["url"].startswith("https://")


async def test_an_authority_that_is_known_need_not_be_given_again_to_pair_anew(urls, tmp_path, certificate, stranger):
    async with (
        reachable(urls[0], tmp_path / "a", "chajnantor", certificate=certificate) as inviter,
        reachable(urls[1], tmp_path / "b", "nersc", certificate=stranger) as joiner,
    ):
        token = await invite(inviter, authority=stranger.read_text())
        await join(joiner, token, authority=certificate.read_text())

        again = await join(joiner, await invite(inviter))

    assert (again.status, again.json["is_fetched"]) == (200, False)


async def test_an_inviter_that_is_not_told_of_the_authority_cannot_call_back(urls, tmp_path, certificate, stranger):
    async with (
        reachable(urls[0], tmp_path / "a", "chajnantor", certificate=certificate) as inviter,
        reachable(urls[1], tmp_path / "b", "nersc", certificate=stranger) as joiner,
    ):
        joined = await join(joiner, await invite(inviter), authority=certificate.read_text())

    assert (joined.status, joined.json["is_fetched"]) == (200, True)
