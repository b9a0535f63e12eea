"""What the demonstration shows: bars on a terminal, plain lines in a pipe, and the table at the end."""

from __future__ import annotations

import io
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from librarian.cli.terminal import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from librarian.client import Progress as ClientProgress
    from librarian.demo.payloads import Payload

#: Hexadecimal digits of a checksum that a terminal shows, when it is at least so wide, and when it is not.
_DIGITS: Final = 12
_FEW_DIGITS: Final = 6
_WIDE: Final = 105
_PICTURE_WIDTH: Final = 118
#: Wider than any line: in a pipe nothing is folded.
_NO_END: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; ``copies`` counts verified copies per site, ``seconds`` is how long the upload took."""

    name: str
    kind: str
    size: int
    checksum: str
    copies: Sequence[int]
    seconds: float


class Screen:
    """Where the demonstration prints."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def say(self, text: str = "") -> None:
        """Print a line as it is, to be pasted if need be."""
        if self._console.is_terminal:
            self._console.print(escape(text))
        else:
            # Flushed line by line; and where nobody reads any more, rich would end the process at once.
            typer.echo(text)

    @contextmanager
    def making(self, what: str) -> Iterator[None]:
        """Say what is being made while the block runs."""
        if self._console.is_terminal:
            with self._console.status(f"Making {what} …"):
                yield
        else:
            self.say(f"Making {what} …")
            yield

    @contextmanager
    def uploads(self, payloads: Sequence[Payload]) -> Iterator[Uploads]:
        """Show uploads: a bar for the present one and one for all, or a line for each that is done."""
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
            with Progress(*columns, TransferSpeedColumn(), console=self._console, transient=True) as bars:
                yield Uploads(self, payloads, bars)
        else:
            yield Uploads(self, payloads, None)

    @contextmanager
    def arrivals(self, what: str, total: int) -> Iterator[Arrivals]:
        """Show how many of *total* have arrived."""
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
            with Progress(*columns, console=self._console, transient=True) as bars:
                yield Arrivals(self, what, total, bars)
        else:
            yield Arrivals(self, what, total, None)

    def table(self, sites: Sequence[str], rows: Sequence[Row]) -> None:
        """Print the table: fitted to a terminal, or as aligned lines with whole checksums."""
        if self._console.is_terminal:
            self._console.print(_table(sites, rows, width=self._console.width), soft_wrap=False)
            return
        console = Console(file=io.StringIO(), width=_NO_END)
        with console.capture() as captured:
            console.print(_table(sites, rows, width=_NO_END))
        self.say(captured.get().rstrip("\n"))


class Uploads:
    """Uploads, one after the other."""

    def __init__(self, screen: Screen, payloads: Sequence[Payload], bars: Progress | None) -> None:
        self._screen = screen
        self._bars = bars
        self._before = 0
        if bars is not None:
            self._this = bars.add_task("", total=None)
            self._all = bars.add_task(f"all {len(payloads)}", total=sum(payload.size for payload in payloads))

    def begin(self, payload: Payload) -> None:
        """*payload* is next."""
        if self._bars is not None:
            self._bars.reset(self._this, description=payload.name.rpartition("/")[2][:40], total=payload.size)

    def show(self, progress: ClientProgress) -> None:
        """The present upload is so far."""
        if self._bars is not None:
            self._bars.update(self._this, total=progress.total_bytes, completed=progress.done_bytes)
            self._bars.update(self._all, completed=self._before + progress.done_bytes)

    def end(self, name: str, size: int, seconds: float) -> None:
        """The present upload is verified."""
        self._before += size
        if self._bars is None:
            self._screen.say(f"  {name}: {size_text(size)}, verified after {seconds:.2f} s")


class Arrivals:
    """Files that arrive at the other site."""

    def __init__(self, screen: Screen, what: str, total: int, bars: Progress | None) -> None:
        self._screen = screen
        self._bars = bars
        self._what = what
        self._total = total
        self._count = 0
        self.progressed_at = time.monotonic()
        if bars is not None:
            self._task = bars.add_task(what, total=total)

    def advance(self, count: int) -> None:
        """*count* more have arrived."""
        self._count += count
        self.progressed_at = time.monotonic()
        if self._bars is not None:
            self._bars.advance(self._task, count)
        else:
            self._screen.say(f"  {self._what}: {self._count} of {self._total}")


def save_picture(path: Path, sites: Sequence[str], rows: Sequence[Row]) -> None:
    """Draw the table as SVG, without anything from elsewhere."""
    console = Console(record=True, width=_PICTURE_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(_table(sites, rows, width=_PICTURE_WIDTH))
    drawn = console.export_svg(title="scripts/demo")
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL).replace("Fira Code, ", ""))


def _table(sites: Sequence[str], rows: Sequence[Row], *, width: int) -> Table:
    """What is where now, for a screen of *width* characters."""
    size, seconds = sum(row.size for row in rows), sum(row.seconds for row in rows)
    is_wide = _WIDE <= width < _NO_END
    table = Table(box=box.SIMPLE_HEAD if is_wide else None, pad_edge=False, padding=(0, 1, 0, 0))
    table.show_footer = True
    table.add_column("file", f"{len(rows)} in all", overflow="fold")
    table.add_column("kind")
    table.add_column("size", size_text(size), justify="right", no_wrap=True)
    table.add_column("checksum", no_wrap=True)
    for site in sites:
        table.add_column(site, justify="right")
    table.add_column("MB/s", _rate(size, seconds), justify="right", no_wrap=True)
    for row in rows:
        algorithm, _, digits = row.checksum.partition(":")
        shown = digits if width == _NO_END else f"{digits[: _DIGITS if is_wide else _FEW_DIGITS]}…"
        copies = (f"{count} [green]✓[/]" if count else "[red]0[/]" for count in row.copies)
        rate = _rate(row.size, row.seconds)
        table.add_row(escape(row.name), row.kind, size_text(row.size), f"{algorithm}:{shown}", *copies, rate)
    return table


def _rate(size: int, seconds: float) -> str:
    return f"{size / seconds / 1e6:,.0f}" if seconds else "-"
