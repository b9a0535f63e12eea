"""What the demonstration uploads, compares and draws, without its servers."""

import io

import pytest
from rich.console import Console

from librarian.demo import payloads, showing
from librarian.errors import BadRequest, NoRoom
from librarian.names import FileName

SITES = ("chajnantor", "nersc")
ROWS = [
    showing.Row(
        name="hera/2459118/zen.2459118.25087.sum.uvh5",
        kind="book",
        size=1_610_000,
        checksum="book1-xxh3:" + "4a" * 16,
        copies=(1, 0),
        seconds=0.5,
    )
]


@pytest.fixture
def folder(tmp_path):
    """Two books and a file, one book inside a folder that is a night."""
    made = tmp_path / "data"
    for path in ("book/visdata", "2459118/run.uvh5", "alone.fits"):
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_bytes(b"light")
    return made


def drawn(width):
    console = Console(file=io.StringIO(), width=width)
    console.print(showing._table(SITES, ROWS, width=width))
    return console.file.getvalue()


def test_directories_are_books_and_nights_are_taken_file_by_file(folder, tmp_path):
    found = payloads.collect(folder, tmp_path)

    assert {each.name: each.is_book for each in found} == {
        "data/2459118/run.uvh5": False,
        "data/alone.fits": False,
        "data/book": True,
    }


def test_without_real_data_some_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(payloads, "REAL_DATA", tmp_path / "none")

    found = payloads.collect(None, tmp_path)

    assert {each.is_book for each in found} == {True, False}
    assert [FileName(each.name) for each in found] == sorted(each.name for each in found)


def test_real_data_are_taken_where_they_stand(hera, tmp_path):
    found = payloads.collect(None, tmp_path)

    assert "hera/zen.2457698.40355.xx.HH.uvcA" in {each.name for each in found if each.is_book}


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="no folder with data"):
        payloads.collect(tmp_path / "none", tmp_path)


def test_a_disk_without_the_room_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(NoRoom, match="3000 PB"):
        payloads.check_room(tmp_path, big=10**18)


@pytest.mark.parametrize("size", [0, 5, 100_000])
async def test_the_big_book_has_the_size_that_was_asked_for(tmp_path, size):
    book = await payloads.make_big_book(tmp_path, size)

    assert book.size == size
    assert len(list(book.source.iterdir())) == payloads.BIG_BOOK_MEMBERS


def test_a_book_is_the_same_as_its_copy(folder):
    assert payloads.same_bytes(folder, folder)


@pytest.mark.parametrize("change", ["book/visdata", "book/more", "alone.fits"])
def test_one_other_byte_or_member_makes_a_book_another(folder, tmp_path, change):
    copy = tmp_path / "copy"
    for path in ("book/visdata", "2459118/run.uvh5", "alone.fits", change):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(b"liglt" if path == change else b"light")

    assert not payloads.same_bytes(folder, copy)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(width):
    assert max(map(len, drawn(width).splitlines())) <= width


def test_a_pipe_gets_whole_names_and_checksums_in_one_line():
    table = drawn(showing._NO_END)

    assert "hera/2459118/zen.2459118.25087.sum.uvh5 book 1.61 MB book1-xxh3:" + "4a" * 16 in table


def test_the_picture_needs_nothing_from_elsewhere(tmp_path):
    showing.save_picture(tmp_path / "demo.svg", SITES, ROWS)

    drawn_as = (tmp_path / "demo.svg").read_text()
    assert "font-face" not in drawn_as
    assert "zen.2459118.25087.sum.uvh5" in drawn_as
