"""Processes of the project that start in a moment: each is forked from one that has loaded everything already.

They are processes as any other, children of the one that runs the tests: waited for, stopped and killed. All they are
spared is the second of CPU in which each would load the same modules again. Tests of the command line start real
interpreters.
"""

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

#: What is loaded once: all that the programs import, but not they.
LOADED = ("librarian.admin.commands", "librarian.cli.carrying", "librarian.cli.finding", "librarian.serve")
_PR_SET_CHILD_SUBREAPER = 36
_ORDER_BYTES = 100_000
_alone = threading.Lock()


class Started(subprocess.Popen):
    """``python -m`` with *args*: the module and its arguments."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        _, _, _, *pipes = rest[:9]
        read, _, _, write, _, complain = pipes
        assert (executable, preexec_fn, pass_fds) == (None, None, ())
        order = {
            "words": [os.fspath(each) for each in args],
            "folder": os.fspath(cwd or Path.cwd()),
            "environment": dict(env or os.environ),
        }
        files = [number if file == -1 else file for number, file in enumerate((read, write, complain))]
        self.pid = _fork(order, files)
        self._child_created = True
        self._close_pipe_fds(*pipes)


def _fork(order: dict, files: list[int]) -> int:
    """Have the loaded process forked, as a child of this one, with *files* as its standard ones; the child's id."""
    with _alone:
        loaded = _loaded()
        libc = ctypes.CDLL(None)
        # The forked one is handed to this process when the one between ends.
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(loaded, [json.dumps(order).encode()], files)
            return int(loaded.recv(20))
        finally:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)


@functools.cache
def _loaded() -> socket.socket:
    """The way to the loaded process, which is started with the first question and ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _await_order(orders: socket.socket) -> list[str]:
    """Serve orders until there are no more; in each process that is forked: its words."""
    while True:
        raw, files, _, _ = socket.recv_fds(orders, _ORDER_BYTES, 3)
        if not raw:
            sys.exit()
        begin, may_begin = os.pipe()
        if (between := os.fork()) == 0:
            if os.fork() != 0:
                os._exit(0)
            os.close(may_begin)
            os.read(begin, 1)
            os.close(begin)
            with orders:
                orders.send(str(os.getpid()).encode())
            return _become(json.loads(raw), files)
        os.waitpid(between, 0)
        for file in (begin, may_begin, *files):
            os.close(file)


def _become(order: dict, files: list[int]) -> list[str]:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # Those that were there would take these for files of the former kind.
    sys.stdin, sys.stdout = (os.fdopen(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w")))
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.path[0] = order["folder"]
    return order["words"]


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    module, *arguments = _await_order(socket.socket(fileno=int(sys.argv[1])))
    sys.argv = [module, *arguments]
    sys.orig_argv = [sys.executable, "-m", module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
