"""What other users bring into staging on a shared disk: published as the server's own copy, or refused and cleared."""

import io
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from librarian import intake
from librarian.catalog.incoming_rows import Commit
from librarian.states import TransferState
from tests.contracts.conftest import acting_as, open_folder
from tests.disks import site_on
from tests.uploading import ANA, checksum_of, file_called, folder_of, ingest, now_of, open_one, payload_of, state_of

__all__ = ["open_folder"]

STRANGER = 12345
BOOK = {"header": b"h" * 10, "deep/data": b"d" * 3_000_000, "empty": None}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs: root, to act as another user")


@pytest.fixture
async def shared_site(sqlite_url, open_folder, tmp_path):
    """A site on a disk that other users write to as well."""
    options = {"takes_foreign_writes": True, "staging_mode": "2777"}
    async with site_on(open_folder / "disk", tmp_path / "state", sqlite_url, **options) as site:
        yield site


def as_stranger(act: Callable[[], object], *, umask: int = 0o022) -> None:
    """Do *act* as another user; nothing else runs meanwhile."""
    with acting_as(STRANGER):
        before = os.umask(umask)
        try:
            act()
        finally:
            os.umask(before)


def bring(place: Path, content) -> None:
    if isinstance(content, bytes):
        place.write_bytes(content)
        return
    place.mkdir()
    for member, inner in content.items():
        (place / member).parent.mkdir(parents=True, exist_ok=True)
        (place / member).mkdir() if inner is None else (place / member).write_bytes(inner)


async def handed_over(site, name, content, act, *, umask=0o022):
    """An upload of *content* that a stranger brings by *act*, committed."""
    upload = await open_one(site, name, content)
    place = payload_of(site, upload)
    as_stranger(lambda: act(place), umask=umask)
    await intake.commit_uploads(site, ANA, [Commit(uuid=upload.uuid, checksum=checksum_of(content))])
    return upload


def owners_and_modes(top: Path) -> set[tuple[int, int, bool]]:
    """Of *top* and all below it: who owns it, what may be done to it, whether it has another name."""
    every = [top, *top.rglob("*")] if top.is_dir() else [top]
    return {
        (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode), path.is_file() and path.stat().st_nlink > 1)
        for path in every
    }


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("content", [b"truth" * 1000, BOOK], ids=["file", "book"])
async def test_what_a_stranger_brought_becomes_the_servers_own(shared_site, content, umask):
    upload = await handed_over(shared_site, "a", content, lambda place: bring(place, content), umask=umask)

    await ingest(shared_site)

    published = shared_site.stores.lookup("fast").path_of("a")
    assert await state_of(shared_site, upload) is TransferState.COMPLETED
    assert (await file_called(shared_site, "a")).checksum == checksum_of(content)
    assert owners_and_modes(published) <= {(0, 0o444, False), (0, 0o555, False)}
    assert not folder_of(shared_site, upload).exists()


@pytest.mark.parametrize("umask", [0o022, 0o077])
async def test_a_strangers_other_link_cannot_change_what_was_published(shared_site, open_folder, umask):
    elsewhere = open_folder / "elsewhere"

    def link(place: Path) -> None:
        elsewhere.write_bytes(b"truth")
        os.link(elsewhere, place)

    upload = await handed_over(shared_site, "a", b"truth", link, umask=umask)
    await ingest(shared_site)

    as_stranger(lambda: elsewhere.write_bytes(b"lies!"))
    assert await state_of(shared_site, upload) is TransferState.COMPLETED
    assert shared_site.stores.lookup("fast").path_of("a").read_bytes() == b"truth"


async def test_members_that_are_links_to_one_another_become_files_of_their_own(shared_site):
    book = {"a": b"truth", "b": b"truth"}

    def link(place: Path) -> None:
        bring(place, {"a": b"truth"})
        os.link(place / "a", place / "b")

    upload = await handed_over(shared_site, "book", book, link)
    await ingest(shared_site)

    published = shared_site.stores.lookup("fast").path_of("book")
    assert await state_of(shared_site, upload) is TransferState.COMPLETED
    assert (published / "a").stat().st_ino != (published / "b").stat().st_ino


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("where", ["payload", "member", "directory"])
async def test_a_strangers_symbolic_link_is_refused_and_followed_nowhere(shared_site, open_folder, where, umask):
    secret = open_folder / "secret"
    secret.mkdir(mode=0o700)
    (secret / "data").write_bytes(b"truth")
    content = b"truth" if where == "payload" else {"in/data": b"truth"}

    def link(place: Path) -> None:
        target = {"payload": place, "member": place / "in" / "data", "directory": place / "in"}[where]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(secret if where == "directory" else secret / "data")

    upload = await handed_over(shared_site, "a", content, link, umask=umask)
    await ingest(shared_site)

    after = await now_of(shared_site, upload)
    assert (after.state, after.code) == (TransferState.FAILED, "unsupported_member")
    assert not folder_of(shared_site, upload).exists()
    assert (secret / "data").read_bytes() == b"truth"


async def test_what_is_still_written_to_while_it_is_ingested_is_refused(shared_site):
    content = b"0" * 20_000_000
    upload = await handed_over(shared_site, "a", content, lambda place: bring(place, content))
    begun, stop = threading.Event(), threading.Event()

    def scribble(file: io.RawIOBase) -> None:
        while not stop.is_set():
            file.seek(0)
            file.write(b"1")
            begun.set()

    with payload_of(shared_site, upload).open("r+b", buffering=0) as file:
        writing = threading.Thread(target=scribble, args=(file,))
        writing.start()
        begun.wait()
        await ingest(shared_site)
        stop.set()
        writing.join()

    after = await now_of(shared_site, upload)
    assert (after.state, after.code) in (
        (TransferState.FAILED, "checksum_mismatch"),
        (TransferState.FAILED, "source_changed"),
    )
    assert not shared_site.stores.lookup("fast").path_of("a").exists()
