"""Sizes, spans and numbers as people write and read them: ``20 TiB``, ``2 days``, ``1 file``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKMGTPE]?)(i?)B?\s*")
_POWERS: Final = {unit: power for power, unit in enumerate("KMGTPE", start=1)}
_SPAN: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_UNITS: Final = {
    "s": "seconds",
    "second": "seconds",
    "min": "minutes",
    "minute": "minutes",
    "h": "hours",
    "hour": "hours",
    "d": "days",
    "day": "days",
    "week": "weeks",
}
#: As they are read.
_SIZE_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_SPANS: Final = {"d": 86_400, "h": 3_600, "min": 60, "s": 1}


def parse_size(value: object) -> object:
    """Bytes: a number, or text such as ``20 TiB`` (1,024s) or ``20 TB`` (1,000s); anything else is given back."""
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value)
    if found is None:
        raise ValueError(f"{value!r} is not a size; write bytes, or '500 GB', or '20 TiB'")
    number, unit, binary = found.groups()
    power = _POWERS.get(unit.upper(), 0)
    return int(float(number) * (1024 if binary else 1000) ** power)


def parse_span(value: object) -> object:
    """A span: seconds, ISO 8601, or text such as ``90 s``, ``2 days``; anything else is given back."""
    if not isinstance(value, str):
        return value
    found = _SPAN.fullmatch(value)
    if found is None:
        return value
    number, unit = found.groups()
    name = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
    return value if name is None else timedelta(**{name: float(number)})


Bytes = Annotated[int, BeforeValidator(parse_size)]
Span = Annotated[timedelta, BeforeValidator(parse_span)]


def counted(count: int, one: str = "file", many: str = "") -> str:
    """*count* things as people say it: ``1 file``, ``2,000 files``; *many* where the plural does not end in s alone."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def size_text(size: float) -> str:
    """*size* in bytes as people read it: ``1.5 GB`` (decimal, three digits)."""
    for unit in _SIZE_UNITS:
        if size < 999.5 or unit == _SIZE_UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError("the last unit takes every size")


def span_text(seconds: float) -> str:
    """A span as people read it, in its two largest units: ``3 d 2 h``."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in _SPANS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"
