"""What every command shares: printing for people, for pipes and for programs; progress bars; exit codes.

Results go to standard output, everything else (progress, notes, refusals) to standard error. On a terminal results
are tables; in a pipe they are lines of tab-separated fields; with ``--json`` they are lines of JSON.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column as OneLine
from rich.table import Table

from librarian.cli import streams
from librarian.client.progress import OnProgress, Phase, Progress
from librarian.errors import Bug, LibrarianError
from librarian.quantities import counted as counted
from librarian.quantities import size_text as size_text
from librarian.quantities import span_text as span_text

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from pydantic import BaseModel

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two lines about progress where there is no terminal.
LINE_INTERVAL: Final = 10.0

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def instant_text(instant: datetime) -> str:
    """An instant as people read it, in UTC, to the second."""
    return f"{instant:%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table; ``is_number``: aligned to the right."""

    title: str
    is_number: bool = False


class _Screen(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave it to ``streams`` what it means that nobody reads: rich would end the command, whatever it does."""
        raise BrokenPipeError


class Terminal:
    """Where a command prints."""

    def __init__(self, *, is_json: bool = False) -> None:
        self.is_json = is_json
        self.out = _Screen(file=sys.stdout, highlight=False, soft_wrap=True)
        self.err = _Screen(file=sys.stderr, highlight=False, soft_wrap=True)

    def one(self, model: BaseModel | Mapping[str, object], *, text: str) -> None:
        """Print one result: as JSON, else *text* as it is."""
        if self.is_json:
            self._json(model)
        else:
            self.line(text)

    def line(self, text: str) -> None:
        """Print one line of a result, exactly as it is; ends the command where nobody reads any more."""
        streams.print_result(text)

    def size(self, size: int) -> str:
        """*size* in bytes: for people on a terminal, else the number."""
        return size_text(size) if self.out.is_terminal else str(size)

    def span(self, seconds: int | None) -> str:
        """*seconds*: for people on a terminal, else the number; a dash where nobody knows."""
        if seconds is None:
            return "-"
        return span_text(seconds) if self.out.is_terminal else str(seconds)

    def count(self, count: int) -> str:
        """*count* things: for people on a terminal, else the number."""
        return f"{count:,}" if self.out.is_terminal else str(count)

    def instant(self, instant: datetime) -> str:
        """*instant*: for people on a terminal, else in ISO 8601."""
        return instant_text(instant) if self.out.is_terminal else instant.isoformat()

    def table(
        self, columns: Sequence[Column], rows: Sequence[tuple[Sequence[str], BaseModel | Mapping[str, object]]]
    ) -> None:
        """Print many results, each as cells (for people and pipes) and as a model (for programs)."""
        if self.is_json:
            for _, model in rows:
                self._json(model)
            return
        if not self.out.is_terminal:
            for cells, _ in rows:
                self.line("\t".join(cells))
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.title, justify="right" if column.is_number else "left", overflow="fold")
        for cells, _ in rows:
            table.add_row(*map(escape, cells))
        self.out.print(table, soft_wrap=False)

    def note(self, text: str) -> None:
        """Say something that is no result, to standard error; whether anybody reads it does not matter."""
        with streams.beside_results():
            self.err.print(escape(text))

    def _json(self, model: BaseModel | Mapping[str, object]) -> None:
        as_json = getattr(model, "model_dump_json", None)
        self.line(as_json() if as_json is not None else json.dumps(model, ensure_ascii=False))

    @contextmanager
    def progress(self, title: str) -> Iterator[OnProgress]:
        """Show progress while the block runs: a bar with the time left on a terminal, a line now and then elsewhere."""
        if self.err.is_terminal and not self.is_json:
            with _bars(self.err) as bars:
                yield _Bar(bars, title)
        else:
            yield _Lines(self, title)


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(table_column=OneLine(no_wrap=True)),
        TransferSpeedColumn(table_column=OneLine(no_wrap=True)),
        TimeRemainingColumn(),
        TextColumn("{task.fields[phase]}", markup=False),
        console=console,
        transient=True,
    )


class _Bar:
    """Reports to one bar on a terminal."""

    def __init__(self, bars: Bars, title: str) -> None:
        self._bars = bars
        self._task = bars.add_task(title, total=None, phase=Phase.SURVEYING.value)
        self._is_watched = False

    def __call__(self, progress: Progress) -> None:
        files = f"{progress.done_files:,}/{progress.total_files:,} files " if progress.total_files > 1 else ""
        # What was done before anybody watched says nothing about the rate.
        tell = self._bars.update if self._is_watched else self._bars.reset
        self._is_watched = True
        tell(
            self._task,
            total=progress.total_bytes,
            completed=progress.done_bytes,
            phase=f"{files}{progress.phase}",
        )


class _Lines:
    """Reports by a line to standard error every ten seconds, for logs of batch jobs."""

    def __init__(self, terminal: Terminal, title: str) -> None:
        self._terminal = terminal
        self._title = title
        self._started_at = self._said_at = time.monotonic()
        #: Done before anybody watched: it says nothing about the rate.
        self._before: int | None = None

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._before is None:
            self._before = progress.done_bytes
        if now - self._said_at < LINE_INTERVAL or self._terminal.is_json:
            return
        self._said_at = now
        rate = (progress.done_bytes - self._before) / (now - self._started_at)
        pace = ", 0 B/s"
        if rate > 0:
            left = (progress.total_bytes - progress.done_bytes) / rate
            pace = f", {size_text(rate)}/s, {span_text(left)} left"
        self._terminal.note(
            f"{self._title}: {progress.phase}, {size_text(progress.done_bytes)} of {size_text(progress.total_bytes)}"
            f"{pace}"
        )


def counting_bars(console: Console) -> Bars:
    """Bars that count things instead of bytes."""
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def awaited(command: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Make an asynchronous command one that typer can call: typer itself would never await it."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(command(*args, **kwargs))

    return run


class _ExitCodes:
    """Turns whatever ends a command into words and an exit code: see ``errors`` for the codes, 70 is a bug."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._is_json = "--json" in arguments

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, LibrarianError):
            say_refusal(error, is_json=self._is_json)
            raise SystemExit(error.exit_code)
        if isinstance(error, Exception):
            with streams.beside_results():
                traceback.print_exception(error)
            bug = Bug(
                f"librarian itself went wrong: {type(error).__name__}: {error}",
                remedy="Report it with the lines above.",
            )
            say_refusal(bug, is_json=self._is_json)
            raise SystemExit(Bug.exit_code)


def say_refusal(error: LibrarianError, *, is_json: bool, about: str | None = None) -> None:
    """Print what went wrong and what can be done, to standard error; whether anybody reads it does not matter.

    *about*: which of many things it went wrong with.
    """
    with streams.beside_results():
        if is_json:
            print(json.dumps(_problem(error, about), ensure_ascii=False, default=str), file=sys.stderr)
            return
        console = _Screen(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"[bold red]Error:[/] {escape(f'{about}: ' if about else '')}{escape(error.message)}")
        if error.remedy:
            console.print(f"  {escape(error.remedy)}")


def _problem(error: LibrarianError, about: str | None) -> dict[str, object]:
    return {
        **({} if about is None else {"name": about}),
        "code": error.code,
        "message": error.message,
        "remedy": error.remedy,
        "details": error.details,
        "exit_code": error.exit_code,
    }


def run_app(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line and exit with its code: 0 done, 2 caller, 3 unavailable, 4 integrity, 70 bug."""
    streams.take_any_text()
    with _ExitCodes(sys.argv[1:]):
        try:
            app(prog_name=name)
        except SystemExit as end:
            # typer and rich end so when nobody reads their help any more; no failure of ours has this code.
            raise SystemExit(0 if end.code == 1 else end.code) from None
        finally:
            streams.flush_results()
    sys.exit(0)


def new_app(help_text: str, *, completes: bool = False) -> typer.Typer:
    """A command line in our manner: help without arguments, tracebacks as Python prints them.

    *completes*: it can be installed for a shell's completion, as only a program with a name of its own can.
    """
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=completes,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
