"""A real server that stops in its tracks at a named step, so that a test can kill it there or cut its power.

``python -m tests.crash.server STEP FIFO serve --config FILE``: at STEP the name is written to FIFO and the whole
process stops (SIGSTOP): nothing is flushed, closed or answered after it.
"""

import signal
import sys
import threading
from pathlib import Path

from librarian import guard
from librarian.cli.__main__ import main


def stop_at(step: str, fifo: Path) -> None:
    alone = threading.Lock()

    def observe(name: str) -> None:
        if name == step:
            # Several threads may reach the step at once: only one tells, and none gets past it.
            with alone:
                with fifo.open("w") as report:
                    report.write(name)
                # For this very thread: one that is for the process may be taken by another while this one goes on.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    guard.observe_steps(observe)


if __name__ == "__main__":
    step, fifo, *arguments = sys.argv[1:]
    stop_at(step, Path(fifo))
    sys.argv = ["librarian", *arguments]
    main()
