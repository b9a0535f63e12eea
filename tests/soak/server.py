"""A real server whose clock can be moved: each SIGUSR1 is a week.

``python -m tests.soak.server WEEKS serve --config FILE``: its clock is WEEKS ahead from the start.
"""

import signal
import sys
from datetime import UTC, datetime, timedelta

import time_machine

from librarian.cli.__main__ import main

WEEK = timedelta(weeks=1)

if __name__ == "__main__":
    weeks, *arguments = sys.argv[1:]
    # It ticks on; what measures spans by the monotonic clock does not notice.
    clock = time_machine.travel(datetime.now(UTC) + int(weeks) * WEEK, tick=True).start()
    signal.signal(signal.SIGUSR1, lambda *_: clock.shift(WEEK))
    sys.argv = ["librarian", *arguments]
    main()
