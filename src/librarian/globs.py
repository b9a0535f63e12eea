"""Glob patterns over names: parsed once, matched anywhere, one meaning everywhere.

The meaning is that of :func:`fnmatch.fnmatchcase`: ``*`` is any run of characters *including slashes*, ``?`` is one
character, ``[abc]``, ``[a-z]`` and ``[!a-z]`` are one character of (not of) a set, everything else is itself.
``[*]`` is a literal star. A ``[`` that is never closed is itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from librarian.errors import BadRequest

#: Longest pattern, in characters: as long as the longest name.
LONGEST: Final = 1024
_LAST: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


@dataclass(frozen=True, kw_only=True)
class AnyRun:
    """``*``."""


@dataclass(frozen=True, kw_only=True)
class AnyOne:
    """``?``."""


@dataclass(frozen=True, kw_only=True)
class OneOf:
    """``[...]``: sorted, disjoint ranges of code points, both ends included."""

    ranges: tuple[tuple[int, int], ...]
    is_negated: bool


Piece = str | AnyRun | AnyOne | OneOf


def _merge(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pair for pair in ranges if pair[0] <= pair[1]):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _parse_set(inside: str) -> OneOf:
    is_negated = inside.startswith("!")
    text = inside[1:] if is_negated else inside
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < len(text):
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            ranges.append((ord(text[at]), ord(text[at + 2])))
            at += 3
        else:
            ranges.append((ord(text[at]), ord(text[at])))
            at += 1
    return OneOf(ranges=_merge(ranges), is_negated=is_negated)


def _parse(pattern: str) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        piece: Piece = char
        if char == "*":
            if pieces and isinstance(pieces[-1], AnyRun):
                continue
            piece = AnyRun()
        elif char == "?":
            piece = AnyOne()
        elif char == "[":
            # A "]" right after "[" or "[!" is a member of the set, so that the end is looked for behind it.
            end = pattern.find("]", at + (2 if pattern[at : at + 1] == "!" else 1))
            if end >= 0:
                piece = _parse_set(pattern[at:end])
                at = end + 1
        if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return tuple(pieces)


def _regex_of(piece: Piece) -> str:
    match piece:
        case str():
            return re.escape(piece)
        case AnyOne():
            return "."
        case OneOf(ranges=(), is_negated=negated):
            return "." if negated else "(?!)"
        case OneOf(ranges=ranges, is_negated=negated):
            inside = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)
            return f"[{'^' if negated else ''}{inside}]"
        case AnyRun():
            return ".*"


@dataclass(frozen=True)
class Glob:
    """A parsed pattern.

    Raises
    ------
    BadRequest
        The pattern is empty, longer than 1,024 characters, or has control characters or lone surrogates.
    """

    pattern: str

    def __post_init__(self) -> None:
        if not 0 < len(self.pattern) <= LONGEST:
            raise BadRequest(
                f"a pattern has 1 to {LONGEST:,} characters, this one {len(self.pattern):,}",
                remedy="Give one such as '2026/11/*'.",
            )
        if any(ord(char) < 0x20 or ord(char) in _SURROGATES for char in self.pattern):
            raise BadRequest("the pattern has a control character", remedy="No name has one: leave it out.")

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Literals, stars, question marks and sets, in order; neighbouring stars count once."""
        return _parse(self.pattern)

    @property
    def prefix(self) -> str:
        """What every matching name starts with; may be empty."""
        first = self.pieces[0]
        return first if isinstance(first, str) else ""

    @property
    def is_exact(self) -> bool:
        """Whether only ``prefix`` itself matches."""
        return len(self.pieces) == 1 and isinstance(self.pieces[0], str)

    @property
    def is_everything(self) -> bool:
        """Whether every name matches."""
        return self.pieces == (AnyRun(),)

    @property
    def is_prefix(self) -> bool:
        """Whether every name that starts with ``prefix`` matches."""
        return self.is_everything or (len(self.pieces) == 2 and bool(self.prefix) and self.pieces[1] == AnyRun())

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        runs: list[str] = [""]
        for piece in self.pieces:
            if isinstance(piece, AnyRun):
                runs.append("")
            else:
                runs[-1] += _regex_of(piece)
        if len(runs) == 1:
            return re.compile(runs[0], re.DOTALL)
        # Each middle run is taken where it first fits, for good: "*a*a*a*" must not try every combination.
        middle = "".join(f"(?>.*?{run})" for run in runs[1:-1])
        return re.compile(f"{runs[0]}{middle}.*{runs[-1]}", re.DOTALL)

    def matches(self, name: str) -> bool:
        """Whether *name* as a whole matches."""
        return self._regex.fullmatch(name) is not None


def after_prefix(prefix: str) -> str | None:
    """The smallest text that sorts (by code point) after all that start with *prefix*; None: there is none."""
    for end in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[end]) + 1
        if code in _SURROGATES:
            code = _SURROGATES.stop
        if code <= _LAST:
            return prefix[:end] + chr(code)
    return None
