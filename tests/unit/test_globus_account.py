"""Who we are at Globus: tokens that renew themselves, consents without a browser, and secrets that were changed."""

import asyncio
import time
import uuid
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from librarian.errors import Forbidden, Unauthenticated
from librarian.names import StoreName
from librarian.transfers.base import Phase
from librarian.transfers.globus import GlobusEngine
from librarian.transfers.globus_account import Account, Credentials
from librarian.transfers.globus_desk import BURST, Desk
from librarian.transfers.globus_places import Collection
from tests.fakes.globus import fake_globus, pointed_at
from tests.unit.globus_roads import busy, folders

__all__ = ["busy", "folders"]


@pytest.fixture
async def globus():
    async with fake_globus() as service:
        with pointed_at(service):
            yield service


def logged_in(globus, file):
    """The desk of a person who has logged in with a native app, whose refresh token is in *file*."""
    client = str(uuid.uuid4())
    file.write_text("a-refresh-token\n")
    globus.refresh_tokens["a-refresh-token"] = client
    return Desk(Account(Credentials(client_id=client, refresh_token_file=file)), pace=1000.0)


@pytest.fixture
async def native(globus, tmp_path):
    desk = logged_in(globus, tmp_path / "refresh-token")
    yield desk
    await desk.close()


@pytest.fixture
async def confidential(globus, tmp_path):
    """The desk of a service account, and the file with its secret."""
    client, secret = globus.add_client()
    file = tmp_path / "secret"
    file.write_text(secret)
    desk = Desk(Account(Credentials(client_id=client, client_secret_file=file)), pace=1000.0)
    yield desk, file
    await desk.close()


async def test_a_token_is_asked_for_once(confidential, globus):
    desk, _ = confidential

    await desk.submission_id()
    await desk.submission_id()

    assert globus.requests["token"] == 1


async def test_a_token_that_is_refused_is_renewed_and_the_request_repeated(confidential, globus):
    desk, _ = confidential
    await desk.submission_id()
    globus.tokens.clear()

    await desk.submission_id()

    assert globus.requests["token"] == 2


async def test_a_token_that_is_refused_again_and_again_is_told(confidential, globus):
    desk, _ = confidential
    globus.cue("unauthorized", times=9)

    with pytest.raises(Unauthenticated) as refusal:
        await desk.submission_id()

    assert refusal.value.remedy


async def test_a_secret_that_is_replaced_is_read_anew(confidential):
    desk, file = confidential
    good = file.read_text()
    file.write_text("wrong")
    with pytest.raises(Unauthenticated, match="credentials"):
        await desk.submission_id()
    file.write_text(good)

    assert await desk.submission_id()


@pytest.mark.parametrize("content", [None, "", b"\xff"])
async def test_a_secret_that_cannot_be_read_is_told(confidential, content):
    desk, file = confidential
    file.unlink()
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(Unauthenticated, match=str(file)):
        await desk.submission_id()


async def test_the_secret_is_in_no_description(confidential):
    desk, file = confidential

    assert file.read_text() not in repr(desk) + repr(desk._account) + str(vars(desk._account))


async def test_a_person_who_has_logged_in_once_is_let_in_again_and_again(native, globus):
    await native.submission_id()
    globus.tokens.clear()
    await native.submission_id()
    globus.tokens.clear()

    assert await native.submission_id()


async def test_a_batch_of_a_person_arrives_although_tokens_expire_on_the_way(busy, folders, tmp_path):
    road, globus = busy
    (collection,) = [name for name, each in globus.collections.items() if each.root == folders[0]]
    places = [Collection(store=StoreName("fast"), collection=collection, root=PurePosixPath("/"), folder=folders[0])]
    desk = logged_in(globus, tmp_path / "refresh-token")
    person = replace(road, engine=GlobusEngine(desk, site="chajnantor", collections=places))
    globus.cue("silent")
    handle = await person.starts()
    globus.tokens.clear()
    globus.release()

    progress = await person.ends(handle)

    await person.engine.close()
    assert (progress.phase, progress.failed_items, len(globus.tasks)) == (Phase.SUCCEEDED, {}, 1)


async def test_no_more_requests_go_in_a_second_than_the_pace_says(globus, tmp_path):
    client, secret = globus.add_client()
    file = tmp_path / "secret"
    file.write_text(secret)
    desk = Desk(Account(Credentials(client_id=client, client_secret_file=file)), pace=100.0)
    began = time.monotonic()

    await asyncio.gather(*(desk.submission_id() for _ in range(BURST + 20)))

    await desk.close()
    assert time.monotonic() - began > 0.15


async def test_a_refresh_token_that_is_no_longer_good_is_told(native, globus):
    globus.refresh_tokens.clear()

    with pytest.raises(Unauthenticated, match="no such refresh token"):
        await native.submission_id()


async def test_a_service_account_consents_by_itself(busy):
    road, globus = busy
    for collection in globus.collections.values():
        collection.wants_consent = True

    progress = await road.runs()

    assert progress.phase is Phase.SUCCEEDED
    assert {name for _, name in globus.consents} == set(globus.collections)


async def test_a_person_is_told_which_consent_is_missing(native, globus, tmp_path):
    collection = globus.add_collection(tmp_path, wants_consent=True)
    document = {
        "DATA": [{"source_path": "/a", "destination_path": "/b"}],
        "submission_id": await native.submission_id(),
        "source_endpoint": collection,
        "destination_endpoint": collection,
    }

    with pytest.raises(Forbidden, match=f"{collection}/data_access") as refusal:
        await native.submit(document)

    assert "Log in" in refusal.value.remedy


async def test_credentials_that_are_refused_are_unknown_with_a_remedy(busy):
    road, globus = busy
    handle = await road.starts()
    globus.tokens.clear()
    globus.clients.clear()

    progress = await road.says(handle)

    assert progress.phase is Phase.UNKNOWN
    assert "secret" in progress.remedy
