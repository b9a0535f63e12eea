"""A real server that gives up sooner on a database that is away: within a second and a half instead of 15.

``python -m tests.fakes.hasty_server serve --config FILE``
"""

from librarian import ownership
from librarian.catalog import lock
from librarian.cli.__main__ import main

lock.ANSWER_SECONDS = 1.0
ownership.CONFIRM_SECONDS = 0.25
ownership.UNCONFIRMED_SECONDS = 1.5

if __name__ == "__main__":
    main()
