"""Glob patterns as conditions of SQL; they select what ``Glob.matches`` matches, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import ColumnElement, Text, bindparam, literal

from librarian.globs import AnyOne, AnyRun, Glob, OneOf, Piece, after_prefix

if TYPE_CHECKING:
    from sqlalchemy.orm import InstrumentedAttribute

#: Characters that mean something within SQLite's [...]; each is written on its own.
_SPECIAL: Final = (ord("-"), ord("]"), ord("^"))
_LAST: Final = 0x10FFFF


def values_of(glob: Glob, dialect: str) -> dict[str, str]:
    """The parameters of a glob's conditions.

    ``name`` of an exact one; ``prefix`` (and ``prefix_end``, unless nothing sorts after it) of one that begins with
    plain text; ``glob``, or ``like`` and ``regex``, of what ``matches`` asks.
    """
    values: dict[str, str] = {}
    if glob.is_exact:
        values["name"] = glob.prefix
    elif glob.prefix:
        values["prefix"] = glob.prefix
        if (end := after_prefix(glob.prefix)) is not None:
            values["prefix_end"] = end
    if glob.is_everything:
        return values
    if dialect == "sqlite":
        return values | {"glob": "".join(map(_for_glob, glob.pieces))}
    values["like"] = "".join(map(_for_like, glob.pieces))
    if any(isinstance(piece, OneOf) for piece in glob.pieces):
        values["regex"] = "^(?:" + "".join(map(_for_regex, glob.pieces)) + ")$"
    return values


def matches(
    column: ColumnElement[str] | InstrumentedAttribute[str], given: frozenset[str]
) -> list[ColumnElement[bool]]:
    """The conditions under which a name matches, for the parameters in *given*; all must hold.

    They are decided row by row: the column stands in an expression, so that no index is used for them and none can
    mislead the planner.
    """
    bare: ColumnElement[str] = column + literal("", Text())
    # LIKE before the regular expression: it is several times faster, and leaves few rows.
    operators = {"glob": "GLOB", "like": "LIKE", "regex": "~"}
    return [
        bare.op(operator, is_comparison=True)(bindparam(name, type_=Text()))
        for name, operator in operators.items()
        if name in given
    ]


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
