"""The command: two sites on this machine, real data from upload to verified copies at both."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Sequence  # noqa: TC003 - typer looks at annotations
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from librarian.cli.terminal import awaited, run_app, size_text
from librarian.demo.globus import serving_globus
from librarian.demo.payloads import BIG_BOOK_BYTES, check_room, collect, make_big_book
from librarian.demo.showing import Screen, save_picture
from librarian.demo.sites import FIRST, SECOND, DemoSite, introduce, make_site, serving
from librarian.demo.sneakernet import carry_all, islands
from librarian.demo.steps import make_row, prove_download, upload_all
from librarian.errors import BadRequest, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from librarian.client import LibrarianClient
    from librarian.demo.payloads import Payload
    from librarian.wire.files import FileDescription

#: Give up when nothing has become verified for this long, in seconds.
PATIENCE: Final = 300.0
#: Seconds between two looks at the second site.
_LOOK: Final = 0.2

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for."""

    keep: bool
    data: Path | None
    big: int
    picture: Path | None
    globus: bool
    sneakernet: bool


@app.command()
@awaited
async def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave both sites running until Ctrl-C.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder with files and books to upload.", show_default="real data, else some that it makes"
        ),
    ] = None,
    big: Annotated[int, typer.Option(help="Size in bytes of the book that is generated.", min=0)] = BIG_BOOK_BYTES,
    picture: Annotated[Path | None, typer.Option(help="Draw the table into this SVG file.", show_default=False)] = None,
    globus: Annotated[
        bool, typer.Option("--globus", help="Send through Globus: a service on loopback that speaks as it does.")
    ] = False,
    sneakernet: Annotated[
        bool, typer.Option("--sneakernet", help="Carry the files on a drive, twice, while the sites are cut off.")
    ] = False,
) -> None:
    """Start two librarians, upload data to one, and wait until every file is verified at both.

    Everything happens in a temporary folder (TMPDIR says where), which is removed at the end.

    Example: scripts/demo --big 20000000 --keep
    """
    if globus and sneakernet:
        raise BadRequest("what a drive carries does not go through Globus", remedy="Give one of the two options.")
    screen = Screen()
    options = Options(keep=keep, data=data, big=big, picture=picture, globus=globus, sneakernet=sneakernet)
    shown = asyncio.Event()
    work = asyncio.create_task(show(options, screen, shown), name="demo")
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        # Only once: what is being taken down goes on being taken down.
        if not caught:
            work.cancel()
        caught.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    await asyncio.wait([work])
    if work.cancelled():
        typer.echo("Both sites are stopped, and everything is removed.", err=True)
        raise typer.Exit(0 if shown.is_set() else 128 + caught[0])
    work.result()


async def show(options: Options, screen: Screen, shown: asyncio.Event) -> None:
    """The whole demonstration; sets *shown* when all there is to see was seen."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="librarian-demo-")))
        check_room(folder, big=options.big, is_carried=options.sneakernet)
        payloads = collect(options.data, folder)
        with screen.making(f"a book of {size_text(options.big)}"):
            payloads.append(await make_big_book(folder, options.big))
        if options.sneakernet:
            between = await stack.enter_async_context(islands(folder, payloads, screen))
            sites = [between.first, between.second]
            tell_addresses(sites, screen)
            seconds = await carry_all(between, payloads)
        else:
            sites = await stack.enter_async_context(connected(folder, screen, with_globus=options.globus))
            seconds = await upload_all(sites[0], payloads, screen)
        described = await wait_for_both(sites, payloads, screen)
        rows = [make_row(payload, *found, seconds=seconds[payload.name]) for payload, found in described]
        names = [site.name for site in sites]
        screen.table(names, rows)
        screen.say(f"MB/s: from the first byte until verified and durable at {FIRST}.")
        if options.picture is not None:
            save_picture(options.picture, names, rows)
        await prove_download(sites[1], payloads, folder, screen)
        say_goodbye(sites, screen, keep=options.keep)
        shown.set()
        if options.keep:
            await asyncio.Event().wait()


@asynccontextmanager
async def connected(folder: Path, screen: Screen, *, with_globus: bool) -> AsyncIterator[list[DemoSite]]:
    """Run two sites that send to each other over the network while the block runs."""
    async with AsyncExitStack() as stack:
        globus = await stack.enter_async_context(serving_globus(folder)) if with_globus else None
        sites = [make_site(folder, name, globus) for name in (FIRST, SECOND)]
        with screen.making("two sites"):
            await stack.enter_async_context(serving(*sites))
            await introduce(*sites)
        tell_addresses(sites, screen)
        if globus is not None:
            screen.say(f"A Globus of our own moves the bytes: {globus.url}\n")
        yield sites


def tell_addresses(sites: Sequence[DemoSite], screen: Screen) -> None:
    """Say where both sites are."""
    screen.say(f"Two librarians are up:\n  {FIRST:10}  {sites[0].url}\n  {SECOND:10}  {sites[1].url}\n")


Found = tuple["FileDescription", "FileDescription"]


async def wait_for_both(
    sites: Sequence[DemoSite], payloads: Sequence[Payload], screen: Screen
) -> list[tuple[Payload, Found]]:
    """Wait until each payload is verified at the second site, and the first knows it.

    Raises
    ------
    Unavailable
        Nothing has arrived for five minutes.
    """
    found: dict[str, Found] = {}
    with screen.arrivals(f"verified at {SECOND}, known at {FIRST}", len(payloads)) as arrivals:
        async with sites[0].client() as first, sites[1].client() as second:
            while len(found) < len(payloads):
                waiting = [payload.name for payload in payloads if payload.name not in found]
                news = await _arrived(first, second, waiting)
                found |= news
                if news:
                    arrivals.advance(len(news))
                elif time.monotonic() - arrivals.progressed_at > PATIENCE:
                    raise Unavailable(
                        f"{len(waiting)} files have not arrived at {SECOND}: {await _reason(first, waiting[0])}",
                        remedy="The last words of their logs: " + " / ".join(site.last_words for site in sites),
                    )
                else:
                    await asyncio.sleep(_LOOK)
    screen.say(f"{len(payloads)} are verified at {SECOND} as well, and {FIRST} knows it.\n")
    return [(payload, found[payload.name]) for payload in payloads]


async def _arrived(first: LibrarianClient, second: LibrarianClient, names: Sequence[str]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for name in names:
        here = await first.describe(name)
        if here.remote_instances:
            found[name] = here, await second.describe(name)
    return found


async def _reason(client: LibrarianClient, name: str) -> str:
    owed = (await client.describe(name)).copies_due
    return owed[0].reason or owed[0].state if owed else "nobody says why"


def say_goodbye(sites: Sequence[DemoSite], screen: Screen, *, keep: bool) -> None:
    """Say where to look next."""
    first, second = sites
    if keep:
        screen.say(f"\nBoth sites run until Ctrl-C. Ask {FIRST}:")
        screen.say(f"  curl --user demo:{first.passwords['demo']} '{first.url}/api/v1/files?limit=3'")
        screen.say(f"Try its API in a browser:  {first.url}/docs  (account demo, the same password)")
        screen.say(f"See the files at {SECOND}:   ls -R {second.store}")
        screen.say(f"Settings, logs, catalogs:  {first.folder.parent}")
    screen.say("\nNext: docs/tutorial/first-upload.md, then docs/how-to/pair-two-sites.md")
    if not keep:
        screen.say("Everything is removed again; --keep leaves both sites running.")


def main() -> None:
    """Run the demonstration."""
    run_app(app, "scripts/demo")


if __name__ == "__main__":
    main()
