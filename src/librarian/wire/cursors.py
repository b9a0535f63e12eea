"""Cursors: where a page ended, opaque to clients, refused when altered or used for another question.

A cursor is no secret and opens nothing that its caller could not ask for directly; its seal is there so that a cut-off
or mixed-up cursor is an error instead of a wrong page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import TYPE_CHECKING, Final

from librarian.errors import BadRequest
from librarian.wire.base import BIGGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

Part = str | int
_SEAL_BYTES: Final = 12
#: Longest cursor that is read: a name of 1,024 bytes, escaped, with its seal.
LONGEST: Final = 12_000


def _seal(question: str, body: bytes) -> bytes:
    return hashlib.blake2s(body, key=hashlib.sha256(question.encode()).digest(), digest_size=_SEAL_BYTES).digest()


def write_cursor(question: str, parts: Sequence[Part]) -> str:
    """The cursor that stands for *parts* in the answer to *question* (any text that tells questions apart)."""
    body = json.dumps(list(parts), ensure_ascii=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_seal(question, body) + body).decode("ascii").rstrip("=")


def read_cursor(question: str, text: str, kinds: Sequence[type[Part]]) -> tuple[Part, ...]:
    """The parts of a cursor, of the given *kinds*.

    Raises
    ------
    BadRequest
        It was altered, cut off, or belongs to another question.
    """
    refusal = BadRequest(
        "the cursor does not belong to this question",
        remedy="Pass 'next_cursor' unchanged, with the same other parameters; leave it out for the first page.",
    )
    if len(text) > LONGEST:
        raise refusal
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise refusal from error
    seal, body = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
    # Base64 has several spellings of one content; only ours counts.
    if seal != _seal(question, body) or base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=") != text:
        raise refusal
    try:
        parts = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise refusal from error
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
        raise refusal
    if any(isinstance(part, int) and abs(part) > BIGGEST for part in parts):
        raise refusal
    return tuple(parts)
