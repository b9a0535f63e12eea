"""Glob patterns as conditions of SQL; they select what ``Glob.matches`` matches, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import ColumnElement, Text, and_, literal, true

from librarian.globs import AnyOne, AnyRun, Glob, OneOf, Piece, after_prefix

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute

#: Characters that mean something within SQLite's [...]; each is written on its own.
_SPECIAL: Final = (ord("-"), ord("]"), ord("^"))
_LAST: Final = 0x10FFFF


def prefix_range(column: InstrumentedAttribute[str], prefix: str) -> ColumnElement[bool]:
    """The names that start with *prefix*, as a range of an index that sorts by bytes."""
    end = after_prefix(prefix)
    return and_(column >= prefix, column < end) if end is not None else column >= prefix


def matches(column: ColumnElement[str] | InstrumentedAttribute[str], glob: Glob, dialect: str) -> ColumnElement[bool]:
    """The names that match *glob*, decided row by row: no index is used, and none can mislead the planner."""
    if glob.is_everything:
        return true()
    bare: ColumnElement[str] = column + literal("", Text())
    if dialect == "sqlite":
        return bare.op("GLOB", is_comparison=True)(literal("".join(map(_for_glob, glob.pieces)), Text()))
    like = bare.op("LIKE", is_comparison=True)(literal("".join(map(_for_like, glob.pieces)), Text()))
    if not any(isinstance(piece, OneOf) for piece in glob.pieces):
        return like
    # LIKE first: it is several times faster, and leaves few rows for the regular expression.
    regex = "^(?:" + "".join(map(_for_regex, glob.pieces)) + ")$"
    return and_(like, bare.op("~", is_comparison=True)(literal(regex, Text())))


def _for_like(piece: Piece) -> str:
    match piece:
        case str():
            return piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        case AnyRun():
            return "%"
        case AnyOne() | OneOf():
            return "_"


def _for_regex(piece: Piece) -> str:
    match piece:
        case str():
            return "".join(char if char.isalnum() else f"\\U{ord(char):08x}" for char in piece)
        case AnyRun():
            return ".*"
        case AnyOne():
            return "."
        case OneOf(ranges=ranges, is_negated=is_negated):
            return _set_for_regex(ranges, is_negated=is_negated)


def _set_for_regex(ranges: tuple[tuple[int, int], ...], *, is_negated: bool) -> str:
    if not ranges:
        # An empty set matches no character, its negation any.
        return "." if is_negated else "(?!)"
    if is_negated:
        return f"(?![{_code_points(ranges)}])."
    return f"[{_code_points(ranges)}]"


def _code_points(ranges: tuple[tuple[int, int], ...]) -> str:
    return "".join(f"\\U{low:08x}" if low == high else f"\\U{low:08x}-\\U{high:08x}" for low, high in ranges)


def _for_glob(piece: Piece) -> str:
    match piece:
        case str():
            return "".join(f"[{char}]" if char in "*?[" else char for char in piece)
        case AnyRun():
            return "*"
        case AnyOne():
            return "?"
        case OneOf(ranges=ranges, is_negated=is_negated):
            return _set_for_glob(ranges, is_negated=is_negated)


def _set_for_glob(ranges: tuple[tuple[int, int], ...], *, is_negated: bool) -> str:
    if not ranges:
        # "[^<everything>]" is the set that matches nothing.
        return "?" if is_negated else f"[^{chr(1)}-{chr(_LAST)}]"
    specials = [chr(code) for code in _SPECIAL if any(low <= code <= high for low, high in ranges)]
    plain = "".join(
        chr(low) if low == high else f"{chr(low)}-{chr(high)}"
        for pair in ranges
        for low, high in _without_specials(*pair)
    )
    if not plain and not is_negated and specials == ["^"]:
        return "^"
    # "]" counts as itself only in front, "-" only at an end, "^" anywhere but in front.
    front = "]" if "]" in specials else ""
    if not plain and not front and not is_negated and "-" in specials:
        return "[-^]" if "^" in specials else "[-]"
    hat = "^" if "^" in specials else ""
    dash = "-" if "-" in specials else ""
    return f"[{'^' if is_negated else ''}{front}{plain}{hat}{dash}]"


def _without_specials(low: int, high: int) -> list[tuple[int, int]]:
    parts: list[tuple[int, int]] = []
    for special in _SPECIAL:
        if low <= special <= high:
            if low < special:
                parts.append((low, special - 1))
            low = special + 1
    if low <= high:
        parts.append((low, high))
    return parts
