"""The demonstration: two sites on this machine, real data from upload to verified copies at both."""

from __future__ import annotations

import asyncio
import contextlib
import filecmp
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from librarian.cli.terminal import awaited, run_app, size_text
from librarian.client import LibrarianClient
from librarian.errors import LibrarianError, Unavailable
from librarian.states import Presence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from librarian.client import Progress as ClientProgress
    from librarian.wire.files import FileDescription

FIRST: Final = "chajnantor"
SECOND: Final = "nersc"
#: Where real telescope data may stand beside a checkout of the project.
REAL_DATA: Final = Path(__file__).parents[3] / "shared" / "data" / "hera"
BIG_BOOK_MEMBERS: Final = 16
BIG_BOOK_BYTES: Final = 1_000_000_000
#: Give up when nothing has become verified for this long, in seconds.
PATIENCE: Final = 120.0

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Payload:
    """Something to upload: a file, or a directory as a book."""

    source: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class DemoSite:
    """A librarian that the demonstration runs."""

    name: str
    folder: Path
    port: int
    passwords: dict[str, str]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """Its settings file."""
        return self.folder / "site.toml"

    def client(self, account: str) -> LibrarianClient:
        """A client with *account*'s credentials."""
        return LibrarianClient(self.url, user=account, password=self.passwords[account])


@app.command()
@awaited
async def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave both sites running until Ctrl-C.")] = False,
    data: Annotated[Path | None, typer.Option(help="A folder with data to upload.", show_default=False)] = None,
    big: Annotated[int, typer.Option(help="Size in bytes of the book that is generated.", min=0)] = BIG_BOOK_BYTES,
) -> None:
    """Start two librarians, upload real data to one, and wait until every file is verified at both."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="librarian-demo-") as temporary, contextlib.ExitStack() as running:
        folder = Path(temporary)
        payloads = [*collect(data or REAL_DATA, folder), make_big_book(folder, big, console)]
        sites = [make_site(folder, name) for name in (FIRST, SECOND)]
        introduce(*sites)
        for site in sites:
            running.enter_context(serving(site))
        await asyncio.gather(*(ready(site) for site in sites))
        connect_sites(*sites)
        console.print(f"Two librarians are up: {FIRST} at {sites[0].url}, {SECOND} at {sites[1].url}\n")
        seconds = await upload_all(sites[0], payloads, console)
        described = await wait_for_both(sites, payloads, console)
        console.print(make_table(sites, payloads, described, seconds))
        await prove_download(sites[1], payloads[0], folder, console)
        say_goodbye(sites, console, keep=keep)
        if keep:
            await until_interrupted()


def collect(data: Path, folder: Path) -> list[Payload]:
    """What stands in *data*: directories of plain members are books, folders of files are uploaded file by file."""
    if not data.is_dir():
        return make_small_data(folder / "made")
    found = []
    for entry in sorted(data.iterdir()):
        if entry.is_dir() and not (entry / "visdata").exists():
            found += [
                Payload(source=file, name=f"{data.name}/{entry.name}/{file.name}") for file in sorted(entry.iterdir())
            ]
        else:
            found.append(Payload(source=entry, name=f"{data.name}/{entry.name}"))
    return found


def make_small_data(folder: Path) -> list[Payload]:
    """A night's worth of small books and files, where no real data stand beside the project."""
    made = []
    for number in range(8):
        book = folder / f"book-{number:03}"
        book.mkdir(parents=True)
        (book / "header").write_text(f"first light {number}\n")
        (book / "visdata").write_bytes(os.urandom(1_000_000))
        file = folder / f"run-{number:03}.uvh5"
        file.write_bytes(os.urandom(600_000))
        made += [Payload(source=book, name=f"made/{book.name}"), Payload(source=file, name=f"made/{file.name}")]
    return made


def make_big_book(folder: Path, size: int, console: Console) -> Payload:
    """A book of *size* bytes in equal members."""
    book = folder / "big-book"
    book.mkdir()
    share = size // BIG_BOOK_MEMBERS
    with console.status(f"Making a book of {size_text(size)} …"):
        for number in range(BIG_BOOK_MEMBERS):
            with (book / f"member-{number:02}.dat").open("wb") as member:
                left = share if number else size - share * (BIG_BOOK_MEMBERS - 1)
                while left > 0:
                    left -= member.write(os.urandom(min(left, 8 * 1024**2)))
    return Payload(source=book, name="generated/big-book")


def make_site(folder: Path, name: str) -> DemoSite:
    """Settings for a site with SQLite and one store."""
    home = folder / name
    home.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = f"""\
name = "{name}"
listen = "127.0.0.1:{port}"
state = "{home}/state"

[[stores]]
name = "main"
root = "{home}/store"
staging = "{home}/staging"
"""
    if name == FIRST:
        settings += f"""
[[rules]]
name = "everything"
peer = "{SECOND}"
engines = ["http"]
"""
    (home / "site.toml").write_text(settings)
    accounts = ("demo", SECOND if name == FIRST else FIRST)
    return DemoSite(name=name, folder=home, port=port, passwords={who: secrets.token_urlsafe(15) for who in accounts})


def introduce(first: DemoSite, second: DemoSite) -> None:
    """Create the accounts: one for people at each site, and one for the other site."""
    admin(first, "account", "create", "demo", "--role", "uploader", secret=first.passwords["demo"])
    admin(first, "account", "create", SECOND, "--role", "callback", secret=first.passwords[SECOND])
    admin(second, "account", "create", "demo", "--role", "reader", secret=second.passwords["demo"])
    admin(second, "account", "create", FIRST, "--role", "upstream", secret=second.passwords[FIRST])


def connect_sites(first: DemoSite, second: DemoSite) -> None:
    """Tell each site where the other is, and with which account to call it."""
    admin(second, "peer", "add", FIRST, first.url, "--user", SECOND, secret=first.passwords[SECOND])
    admin(first, "peer", "add", SECOND, second.url, "--user", FIRST, secret=second.passwords[FIRST])


def admin(site: DemoSite, *arguments: str, secret: str) -> None:
    """Run an admin command as an operator would."""
    command = [
        sys.executable,
        "-m",
        "librarian.admin",
        "--config",
        str(site.config),
        *arguments,
        "--password-file",
        "-",
    ]
    done = subprocess.run(command, input=secret, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise Unavailable(
            f"'{' '.join(arguments[:3])}' at {site.name} failed: {done.stderr.strip()}", remedy="See the message."
        )


@contextlib.contextmanager
def serving(site: DemoSite) -> Iterator[None]:
    """Run the site's server as a process of its own."""
    log = (site.folder / "log").open("wb")
    command = [sys.executable, "-m", "librarian.cli", "serve", "--config", str(site.config)]
    process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


async def ready(site: DemoSite) -> None:
    """Wait until *site* answers."""
    async with site.client("demo") as client:
        await client.ping()


async def upload_all(site: DemoSite, payloads: list[Payload], console: Console) -> dict[str, float]:
    """Upload one after the other with a bar each; the seconds that each took until it was verified."""
    seconds = {}
    with transfer_bars(console) as bars:
        async with site.client("demo") as client:
            for payload in payloads:
                bar = bars.add_task(payload.name.rpartition("/")[2][:40], total=None)

                def show(progress: ClientProgress, bar: int = bar) -> None:
                    bars.update(bar, total=progress.total_bytes, completed=progress.done_bytes)  # type: ignore[arg-type]

                started = time.monotonic()
                await client.upload(payload.source, payload.name, progress=show)
                seconds[payload.name] = time.monotonic() - started
    console.print(f"{len(payloads)} payloads are verified and durable at {site.name}.\n")
    return seconds


def transfer_bars(console: Console) -> Progress:
    """Bars that count bytes."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
    )


async def wait_for_both(
    sites: list[DemoSite], payloads: list[Payload], console: Console
) -> dict[tuple[str, str], FileDescription]:
    """Wait until each payload is verified at both sites, and the first knows of the second's copy."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    described: dict[tuple[str, str], FileDescription] = {}
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(f"Verified at {SECOND}, known at {FIRST}", total=len(payloads))
        async with sites[0].client("demo") as first, sites[1].client("demo") as second:
            progressed_at = time.monotonic()
            waiting = {payload.name for payload in payloads}
            async for _ in ticks():
                for name in sorted(waiting):
                    here = await first.describe(name)
                    if not here.remote_instances:
                        continue
                    described[FIRST, name] = here
                    described[SECOND, name] = await second.describe(name)
                    waiting.discard(name)
                    progressed_at = time.monotonic()
                    bars.advance(bar)
                if not waiting:
                    return described
                if time.monotonic() - progressed_at > PATIENCE:
                    raise Unavailable(f"{len(waiting)} files have not arrived", remedy="Look into the sites' logs.")
    raise Unavailable("the wait ended early")


async def ticks() -> AsyncIterator[None]:
    """A tick five times a second."""
    while True:
        yield
        await asyncio.sleep(0.2)


def make_table(
    sites: list[DemoSite],
    payloads: list[Payload],
    described: dict[tuple[str, str], FileDescription],
    seconds: dict[str, float],
) -> Table:
    """What is where now."""
    table = Table(header_style="bold", title="Verified at both sites")
    for column in ("file", "kind"):
        table.add_column(column, overflow="fold")
    table.add_column("size", justify="right")
    table.add_column("checksum", no_wrap=True)
    for site in sites:
        table.add_column(site.name, justify="right")
    table.add_column("MB/s", justify="right")
    for payload in payloads:
        file = described[FIRST, payload.name]
        copies = [
            sum(instance.presence is Presence.PRESENT for instance in described[site.name, payload.name].instances)
            for site in sites
        ]
        checksum = file.checksum if len(file.checksum) <= 28 else file.checksum[:27] + "…"
        rate = file.size / seconds[payload.name] / 1e6
        table.add_row(
            payload.name, file.kind, size_text(file.size), checksum, *(f"{count} ✓" for count in copies), f"{rate:,.0f}"
        )
    return table


async def prove_download(site: DemoSite, payload: Payload, folder: Path, console: Console) -> None:
    """Fetch one payload from the second site, and compare it with what was uploaded, byte by byte."""
    target = folder / "download"
    async with site.client("demo") as client:
        await client.download(payload.name, target)
    if not same_bytes(payload.source, target):
        raise LibrarianError(f"{payload.name} came back different from {site.name}")
    console.print(f"\nDownloaded {payload.name} from {site.name}: byte for byte what was uploaded.")
    shutil.rmtree(target) if target.is_dir() else target.unlink()


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files, or all members of two books, have the same content."""
    if one.is_file():
        return filecmp.cmp(one, other, shallow=False)
    members = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    others = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    return members == others and not any(filecmp.cmpfiles(one, other, map(str, members), shallow=False)[1:])


def say_goodbye(sites: list[DemoSite], console: Console, *, keep: bool) -> None:
    """Where to look next."""
    first = sites[0]
    if keep:
        credentials = f"--user demo:{first.passwords['demo']}"
        console.print(f"\nBoth sites go on until Ctrl-C. Try:\n  curl {credentials} '{first.url}/api/v1/files?limit=3'")
        console.print(f"  the API, to try in a browser: {first.url}/docs\n  settings and logs: {first.folder.parent}")
    console.print("\nNext: docs/tutorial/first-upload.md, then docs/how-to/connect-two-sites.md")


async def until_interrupted() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> None:
    """Run the demonstration."""
    run_app(app, "scripts/demo")


if __name__ == "__main__":
    main()
