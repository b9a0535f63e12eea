"""Command lines run within this process, as a shell would run them: arguments, environment and a pipe in, text out.

Nothing is left out but the start of the interpreter; tests of pipes, terminals and signals start real processes.
"""

import io
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

import pytest


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def run_command(
    main: Callable[[], None], *arguments: object, environment: Mapping[str, str] | None = None, stdin: str = ""
) -> Outcome:
    """Run *main* with *arguments*; *environment* is added to what is there."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code: object = 0
    with (
        patch.object(sys, "argv", ["command", *map(str, arguments)]),
        patch.object(sys, "stdin", io.StringIO(stdin)),
        patch.dict(os.environ, {"COLUMNS": "200", **(environment or {})}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int), f"ended with {code!r}"
    return Outcome(code, _written(out), _written(err))


def _written(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


@contextmanager
def as_nobody():
    """Be a user who may do nothing, as far as the kernel asks for the effective user."""
    before = os.geteuid(), os.getegid()
    if before[0] != 0:
        pytest.skip("needs: root, to become another user")
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
