"""Starts a program that does not outlive the one that started it. Run by its path: it imports nothing of ours.

``python -I -S leash.py <pid of the parent> <program> <argument>…``
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Become the program."""
    if sys.platform == "linux":
        # It is kept over exec. The second look is for a parent that was gone before the kernel was asked.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
    try:
        os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")


if __name__ == "__main__":
    main()
