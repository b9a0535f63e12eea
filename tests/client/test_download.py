"""Downloading, describing, searching and verifying through the client."""

import pytest

from librarian.checksum import Algorithm, measure_blocking
from librarian.errors import BadName, BadRequest, ChecksumMismatch, Conflict, NotFound, SizeMismatch
from librarian.names import StoreName
from tests.holding import hold

BOOK = {"a/x": b"1" * 3000, "a/y": b"", "b": b"22", "empty/deeper": None, "ü é": b"strange"}


def copy_of(working, name):
    return working.site.stores.lookup(StoreName("fast")).root / name


@pytest.fixture
def database_url(sqlite_url):
    """One database is enough: nothing here depends on which it is."""
    return sqlite_url


async def test_a_file_arrives_verified(working, client, tmp_path):
    await hold(working.site, "2026/a.h5", b"content")

    done = await client.download("2026/a.h5", tmp_path / "deep" / "a.h5")

    assert done.path.read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.h5"]


async def test_a_book_arrives_with_its_empty_directories(working, client, tmp_path):
    await hold(working.site, "book", BOOK)

    done = await client.download("book", tmp_path / "book")

    assert measure_blocking(tmp_path / "book", Algorithm.XXH3).checksum == done.checksum
    assert (tmp_path / "book" / "empty" / "deeper").is_dir()


@pytest.mark.parametrize("content", [b"", {}, {"only/empty": None}], ids=repr)
async def test_empty_things_arrive(working, client, tmp_path, content):
    await hold(working.site, "empty thing", content)

    done = await client.download("empty thing", tmp_path / "got")

    assert measure_blocking(tmp_path / "got", Algorithm.XXH3).checksum == done.checksum


async def test_a_connection_that_breaks_is_resumed(working, far_client, proxy, tmp_path, some_bytes):
    content = some_bytes(8 * 1024**2)
    await hold(working.site, "large", content)
    proxy.cut_after_download(3 * 1024**2)

    await far_client.download("large", tmp_path / "large")

    assert (tmp_path / "large").read_bytes() == content
    assert proxy.bytes_down < 12 * 1024**2


async def test_an_interrupted_download_goes_on_where_it_stopped(working, far_client, proxy, tmp_path, some_bytes):
    content = some_bytes(4 * 1024**2)
    await hold(working.site, "large", content)
    (tmp_path / ".large.librarian-part").write_bytes(content[: 3 * 1024**2])

    await far_client.download("large", tmp_path / "large")

    assert (tmp_path / "large").read_bytes() == content
    assert proxy.bytes_down < 2 * 1024**2


async def test_what_another_download_left_behind_is_not_believed(working, client, tmp_path):
    await hold(working.site, "file", b"right")
    (tmp_path / ".file.librarian-part").write_bytes(b"wro")

    with pytest.raises(ChecksumMismatch):
        await client.download("file", tmp_path / "file")

    assert not (tmp_path / ".file.librarian-part").exists()
    await client.download("file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"right"


async def test_a_damaged_copy_never_appears_under_the_name(working, client, tmp_path):
    await hold(working.site, "file", b"right")
    copy_of(working, "file").write_bytes(b"wrong")

    with pytest.raises(ChecksumMismatch):
        await client.download("file", tmp_path / "file")

    assert not (tmp_path / "file").exists()


async def test_nothing_is_overwritten(working, client, tmp_path):
    await hold(working.site, "file", b"right")
    (tmp_path / "file").write_bytes(b"mine")

    with pytest.raises(Conflict):
        await client.download("file", tmp_path / "file")

    assert (tmp_path / "file").read_bytes() == b"mine"


async def test_a_target_that_cannot_be_written_is_told(working, client):
    await hold(working.site, "file", b"right")

    with pytest.raises(BadRequest, match="/proc"):
        await client.download("file", "/proc/absent/file")


async def test_an_unknown_name_is_not_found(client, tmp_path):
    with pytest.raises(NotFound):
        await client.download("absent", tmp_path / "x")


async def test_a_name_that_cannot_be_is_refused_here(client, tmp_path):
    with pytest.raises(BadName):
        await client.download("../etc/passwd", tmp_path / "x")


async def test_members_are_listed(working, client):
    await hold(working.site, "book", BOOK)

    assert [member.path for member in await client.members("book")] == ["a/x", "a/y", "b", "empty/deeper/", "ü é"]


async def test_an_equal_local_copy_is_verified(working, client, source):
    await hold(working.site, "book", BOOK)

    done = await client.verify(source(BOOK), "book")

    assert done.checksum == (await client.describe("book")).checksum


@pytest.mark.parametrize(
    ("content", "refusal"),
    [(BOOK | {"b": b"23"}, ChecksumMismatch), (BOOK | {"b": b"2"}, SizeMismatch), (b"a file", SizeMismatch)],
    ids=["content", "size", "kind"],
)
async def test_a_local_copy_that_differs_is_told(working, client, source, content, refusal):
    await hold(working.site, "book", BOOK)

    with pytest.raises(refusal):
        await client.verify(source(content), "book")


async def test_ping_tells_who_answers_and_who_asks(client):
    site = await client.ping()

    assert (site.name, site.account) == ("chajnantor", "uploader")
