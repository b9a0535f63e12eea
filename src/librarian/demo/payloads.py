"""What the demonstration uploads: real data where they stand beside the project, and what it makes itself."""

from __future__ import annotations

import asyncio
import filecmp
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from librarian.cli.terminal import size_text
from librarian.errors import BadRequest, NoRoom

#: Where real telescope data may stand beside a checkout of the project.
REAL_DATA: Final = Path(__file__).parents[4] / "shared" / "data" / "hera"
BIG_BOOK_MEMBERS: Final = 16
BIG_BOOK_BYTES: Final = 1_000_000_000
#: The big book, and its copy at each site.
_COPIES: Final = 3
#: What else comes.
_MARGIN: Final = 200_000_000
_CHUNK: Final = 4 * 1024**2


@dataclass(frozen=True, kw_only=True)
class Payload:
    """Something to upload: a file, or a directory as a book."""

    source: Path
    name: str

    @property
    def is_book(self) -> bool:
        """Whether it is a directory."""
        return self.source.is_dir()

    @property
    def size(self) -> int:
        """Bytes, those of every member counted."""
        files = self.source.rglob("*") if self.is_book else [self.source]
        return sum(path.stat().st_size for path in files if path.is_file())


def check_room(folder: Path, *, big: int, is_carried: bool = False) -> None:
    """Refuse to begin what the disk under *folder* cannot hold, with a drive if it *is_carried*; raises NoRoom."""
    free, needed = shutil.disk_usage(folder).free, (_COPIES + is_carried) * big + _MARGIN
    if free < needed:
        raise NoRoom(
            f"the demonstration needs {size_text(needed)} in {folder}, where {size_text(free)} are free",
            remedy="Name a roomier folder with TMPDIR, or a smaller book with --big.",
        )


def collect(data: Path | None, folder: Path) -> list[Payload]:
    """What stands in *data*, else the real data, else what is made in *folder*.

    Directories are books, but those named by a number are nights, whose files are taken one by one.

    Raises
    ------
    BadRequest
        *data* is no folder, or an empty one.
    """
    if data is None and not REAL_DATA.is_dir():
        return _make_small_data(folder / "made")
    data = (data or REAL_DATA).resolve()
    if not data.is_dir() or not any(data.iterdir()):
        raise BadRequest(f"{str(data)!r} is no folder with data", remedy="Name one that holds files or directories.")
    found = []
    for entry in sorted(data.iterdir()):
        is_night = entry.is_dir() and entry.name.isdigit()
        found += sorted(entry.iterdir()) if is_night else [entry]
    return [Payload(source=path, name=f"{data.name}/{path.relative_to(data)}") for path in found]


def _make_small_data(folder: Path) -> list[Payload]:
    """A night's worth of small books and files."""
    made = []
    for number in range(8):
        book = folder / f"book-{number:03}"
        book.mkdir(parents=True)
        (book / "header").write_text(f"first light {number}\n")
        (book / "visdata").write_bytes(os.urandom(1_000_000))
        file = folder / f"run-{number:03}.uvh5"
        file.write_bytes(os.urandom(600_000))
        made += [Payload(source=book, name=f"made/{book.name}"), Payload(source=file, name=f"made/{file.name}")]
    return sorted(made, key=lambda payload: payload.name)


async def make_big_book(folder: Path, size: int) -> Payload:
    """A book of *size* bytes in equal members."""
    book = folder / "big-book"
    book.mkdir()
    share = size // BIG_BOOK_MEMBERS
    for number in range(BIG_BOOK_MEMBERS):
        left = share if number else size - share * (BIG_BOOK_MEMBERS - 1)
        with (book / f"member-{number:02}.dat").open("wb") as member:
            while left > 0:
                left -= member.write(os.urandom(min(left, _CHUNK)))
                # Ctrl-C is heeded here.
                await asyncio.sleep(0)
    return Payload(source=book, name="generated/big-book")


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files, or two books with all their members, are the same byte for byte."""
    if one.is_file():
        return other.is_file() and filecmp.cmp(one, other, shallow=False)
    mine, theirs = ({path.relative_to(top): path for path in top.rglob("*")} for top in (one, other))
    return mine.keys() == theirs.keys() and all(
        path.is_dir() == theirs[member].is_dir() and (path.is_dir() or filecmp.cmp(path, theirs[member], shallow=False))
        for member, path in mine.items()
    )
