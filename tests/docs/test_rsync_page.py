"""What the page on rsync tells to write down works as it stands there."""

import asyncio

import pytest

from librarian.settings import load_settings
from librarian.transfers.base import Phase
from tests.contracts.roads import rsync_road
from tests.docs.pages import DOCS, blocks
from tests.fakes.sshd import sshd

PAGE = DOCS / "how-to" / "connect-with-rsync.md"
STORE, SENDER = (block.text for block in blocks(PAGE, "toml"))
((KEY,),) = [block.text.splitlines() for block in blocks(PAGE, "text")]


@pytest.fixture
def load(tmp_path):
    def read(text):
        (tmp_path / "site.toml").write_text(text)
        return load_settings(tmp_path / "site.toml")

    return read


def test_the_settings_of_the_receiver_publish_the_account_that_the_page_names(load):
    (store,) = load(STORE).stores

    assert (store.rsync.address, store.rsync.staging) == ("transfers@dtn.nersc.example:22", "/")
    assert f"by rsync: {store.rsync.address}" in PAGE.read_text()


def test_the_settings_of_the_sender_name_the_files_that_the_page_makes(load):
    rsync = load(SENDER).rsync

    assert all(f" {path}\n" in PAGE.read_text() for path in (rsync.key_file, rsync.known_hosts_file))


async def test_the_line_of_the_key_lets_files_in_that_both_users_may_remove(tmp_path):
    sources, staging = tmp_path / "sources", tmp_path / "staging"
    for folder in (sources, staging):
        folder.mkdir()
    async with sshd(tmp_path / "sshd") as server:
        server.lets_in(KEY.partition(" ssh-ed25519")[0].replace("/data/fast/staging", str(staging)))
        async with rsync_road(sources, staging, asyncio.Event(), server, sees_staging="/") as road:
            book = road.has_book("book", {"deep/a": b"a"})
            progress = await road.runs()

    modes = [oct(path.stat().st_mode & 0o777) for path in (road.payload(book) / "deep", road.payload(book) / "deep/a")]
    assert (progress.phase, progress.failed_items) == (Phase.SUCCEEDED, {})
    assert modes == ["0o775", "0o664"]
