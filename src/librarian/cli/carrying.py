"""The commands that carry bytes: upload, download, verify."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from librarian.checksum import Algorithm
from librarian.cli.session import LONG_PATIENCE, At, opened
from librarian.cli.terminal import AsJson, Terminal, awaited, say_refusal, size_text
from librarian.client import SomeFailed, Uploaded
from librarian.errors import BadRequest, LibrarianError
from librarian.names import FileName

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from librarian.client import Downloaded, Verified


@awaited
async def upload(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... NAME",
            help="Files or directories, and the name; with several sources, or ending in '/', what names start with.",
            show_default=False,
        ),
    ],
    *,
    each: Annotated[
        bool, typer.Option("--each", help="Upload every file in a directory on its own, instead of as one book.")
    ] = False,
    algorithm: Annotated[Algorithm, typer.Option(help="The checksum's algorithm.")] = Algorithm.XXH3,
    http: Annotated[bool, typer.Option("--http", help="Send the bytes even where the file system is shared.")] = False,
    as_json: AsJson = False,
    at: At = None,
) -> None:
    """Bring files, or directories as books, and wait until the librarian has verified them.

    A directory becomes one book, unless `--each`. What is held already with the same checksum counts as done, so
    that a repeat after any failure sends only what is missing.

    Examples
    --------
        librarian upload book 2026/11/book-001

        librarian upload *.fits 2026/11/05/

        librarian upload --each night-3/ 2026/11/05/
    """
    terminal = Terminal(is_json=as_json)
    items = list(named(arguments, is_each=each))
    title = items[0][1] if len(items) == 1 else f"{len(items):,} files"
    async with opened(at, shared=False if http else None, patience=LONG_PATIENCE) as librarian:
        with terminal.progress(title) as progress:
            if len(items) == 1:
                source, name = items[0]
                done = [await librarian.upload(source, name, algorithm=algorithm, progress=progress)]
            else:
                uploading = librarian.upload_many(items, algorithm=algorithm, progress=progress)
                done = await _many(terminal, [name for _, name in items], uploading)
    _tell_uploaded(terminal, done)


async def _many(
    terminal: Terminal, names: Sequence[str], uploading: Coroutine[object, object, list[Uploaded]]
) -> list[Uploaded]:
    """The uploads that went well; the others are told one by one before the failure is raised."""
    try:
        return await uploading
    except SomeFailed as failed:
        _tell_uploaded(terminal, [each for each in failed.outcomes if isinstance(each, Uploaded)])
        for name, outcome in zip(names, failed.outcomes, strict=True):
            if isinstance(outcome, LibrarianError):
                say_refusal(outcome, is_json=terminal.is_json, about=name)
        raise


def named(arguments: Sequence[str], *, is_each: bool) -> Iterator[tuple[Path, str]]:
    """Sources with the names they are to have.

    Raises
    ------
    BadRequest
        Fewer than two arguments, two sources of one name, or nothing in a directory.
    """
    if len(arguments) < 2:
        raise BadRequest("a source and a name are needed", remedy="For example: librarian upload book 2026/11/book-001")
    *sources, name = arguments
    is_prefix = len(sources) > 1 or name.endswith("/")
    seen: dict[str, Path] = {}
    for text in sources:
        path = Path(text)
        for source, below in _payloads(path, is_each=is_each):
            parts = [name.rstrip("/")] if name.strip("/") else []
            parts += [path.resolve().name] if is_prefix and not (is_each and path.is_dir()) else []
            full = "/".join([*parts, *([below] if below else [])])
            if full in seen:
                raise BadRequest(
                    f"{str(seen[full])!r} and {str(source)!r} would both become {full!r}",
                    remedy="Upload them in two commands, under different names.",
                )
            seen[full] = source
            yield source, FileName(full)


def _payloads(path: Path, *, is_each: bool) -> Iterator[tuple[Path, str]]:
    if not (is_each and path.is_dir()):
        yield path, ""
        return
    is_empty = True
    for folder, directories, files in os.walk(path):
        directories.sort()
        for file in sorted(files):
            is_empty = False
            source = Path(folder, file)
            yield source, source.relative_to(path).as_posix()
    if is_empty:
        raise BadRequest(f"{str(path)!r} holds no files", remedy="Leave out --each to upload it as an empty book.")


def _tell_uploaded(terminal: Terminal, done: Sequence[Uploaded]) -> None:
    for each in done:
        how = "already held" if each.was_held else "uploaded"
        terminal.one(
            {
                "name": each.name,
                "kind": each.kind.value,
                "size": each.size,
                "checksum": each.checksum,
                "was_held": each.was_held,
            },
            text=f"{how}\t{each.name}\t{each.size}\t{each.checksum}"
            if not terminal.out.is_terminal
            else f"{each.name}: {how} and verified, {each.kind}, {size_text(each.size)}, {each.checksum}",
        )


@awaited
async def download(
    name: Annotated[str, typer.Argument(help="The file's name.")],
    target: Annotated[
        Path | None, typer.Argument(help="Where to; a directory is filled. Default: here, under the last part of NAME.")
    ] = None,
    *,
    as_json: AsJson = False,
    at: At = None,
) -> None:
    """Fetch a file or book and verify it; it appears whole or not at all, and a repeat goes on where it stopped.

    Examples
    --------
        librarian download 2026/11/book-001

        librarian download 2026/11/data.h5 /scratch/ana/
    """
    terminal = Terminal(is_json=as_json)
    place = target or Path()
    path = place / FileName(name).rpartition("/")[2] if place.is_dir() else place
    async with opened(at, patience=LONG_PATIENCE) as librarian:
        with terminal.progress(name) as progress:
            done = await librarian.download(name, path, progress=progress)
    _tell(terminal, done, "downloaded")


@awaited
async def verify(
    path: Annotated[Path, typer.Argument(help="A file or directory on this machine.")],
    name: Annotated[str, typer.Argument(help="The name of what it should be.")],
    *,
    as_json: AsJson = False,
    at: At = None,
) -> None:
    """Measure a local file or book and compare it with the catalog; exit code 4 when they differ.

    Example: `librarian verify /scratch/ana/book-001 2026/11/book-001`
    """
    terminal = Terminal(is_json=as_json)
    async with opened(at) as librarian:
        with terminal.progress(str(path)) as progress:
            done = await librarian.verify(path, name, progress=progress)
    _tell(terminal, done, "equal")


def _tell(terminal: Terminal, done: Downloaded | Verified, how: str) -> None:
    terminal.one(
        {"name": done.name, "path": str(done.path), "size": done.size, "checksum": done.checksum},
        text=f"{how}\t{done.name}\t{done.path}\t{done.size}\t{done.checksum}"
        if not terminal.out.is_terminal
        else f"{done.path}: {how}, {size_text(done.size)}, {done.checksum}",
    )
