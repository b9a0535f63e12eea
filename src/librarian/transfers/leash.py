"""Runs a program that does not outlive the one that started it. Run by its path: it imports nothing of ours.

``python -I -S leash.py <program> <argument>…``, in a process group of its own. Its standard input is a pipe that the
one who starts it keeps open: when it ends, so does the group. Death closes that pipe, and so does exec, by which a
server begins anew.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def _become(program: list[str]) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    try:
        os.execvp(program[0], program)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        os.write(2, f"cannot run {program[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the program to its end, and end as it did."""
    child = os.fork()
    if child == 0:
        _become(sys.argv[1:])
    threading.Thread(target=_watch, daemon=True).start()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
