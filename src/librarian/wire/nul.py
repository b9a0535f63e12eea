"""NUL in JSON: PostgreSQL has none in text, SQLite ends at it, so that no string that we keep may hold one."""

from __future__ import annotations

import re
from typing import Final

#: A backslash that is escaped itself escapes nothing: an even number of them may stand before the one that does.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def has_nul(raw: bytes | bytearray) -> bool:
    """Whether a string in the JSON document *raw* holds NUL, which valid JSON writes as an escape alone."""
    return b"\\u0000" in raw and _NUL.search(raw) is not None
