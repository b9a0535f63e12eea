"""Standard output and standard error as they may be: full, closed, without some letters, or read by nobody any more.

Whoever reads the results of a command may have seen enough, which is no failure; results that cannot be written are
one. What stands on standard error is for people, and whether they read it changes nothing.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from librarian.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


def take_any_text() -> None:
    """Let no text make printing fail: a path may hold bytes that are no text, a terminal may lack a name's letters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_exact = stream is sys.stdout and stream.encoding == "utf-8"
            stream.reconfigure(errors="surrogateescape" if is_exact else "backslashreplace")


def print_result(text: str) -> None:
    """Print a line of the results.

    Raises
    ------
    SystemExit
        Nobody reads them any more: the command is done.
    BadRequest
        They cannot be written.
    """
    try:
        print(text, file=sys.stdout)
    except BrokenPipeError:
        _let_go(sys.stdout)
        raise SystemExit(0) from None
    except OSError as error:
        _let_go(sys.stdout)
        raise _unwritten(error) from error


def flush_results() -> None:
    """Write what is left of the results; raises BadRequest where that is impossible."""
    if sys.stdout is None:  # it was closed before we started
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go(sys.stdout)
    except OSError as error:
        _let_go(sys.stdout)
        raise _unwritten(error) from error


@contextmanager
def beside_results() -> Iterator[None]:
    """Let the block write to standard error, whether anybody reads it or not."""
    try:
        yield
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        _let_go(sys.stderr)


def _let_go(stream: TextIO) -> None:
    """Send to nowhere what *stream* still holds: the interpreter would fail for it at its very end."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _unwritten(error: OSError) -> BadRequest:
    return BadRequest(f"cannot write the results: {error.strerror}", remedy="Check where they are sent to.")
