"""The entry point of ``python -m librarian.admin``."""

from __future__ import annotations

from librarian.admin.commands import main

if __name__ == "__main__":
    main()
