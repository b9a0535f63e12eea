"""The reference page of the settings, made from the models.

``python -m librarian.settings.reference > docs/reference/settings.md``
"""

from __future__ import annotations

import types
import typing
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, BeforeValidator

from librarian.quantities import parse_size
from librarian.settings.models import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

_HEAD = """\
# Settings

<!-- Written by `python -m librarian.settings.reference`; a test compares. Change the models, not this page. -->

A TOML file, named with `--config` or `LIBRARIAN_CONFIG`; without one, everything has the default below. Every key
can be overridden by an environment variable: `LIBRARIAN__NAME`, `LIBRARIAN__LIMITS__WORKERS` (sections joined by two
underscores; lists as JSON). Unknown keys and values that cannot work are refused at start, all at once;
`python -m librarian.admin config check` looks without starting.

Sizes are bytes, or text such as `"500 GB"` and `"20 TiB"`; spans are seconds, or text such as `"90 s"`, `"2 days"`,
`"PT5M"`.

```toml
name = "chajnantor"
listen = "127.0.0.1:21108"
state = "/var/lib/librarian"

[[stores]]
name = "fast"
root = "/data/fast/store"
staging = "/data/fast/staging"

[[rules]]
name = "everything"
peer = "nersc"
```
"""
#: Units, the largest first; ``quantities`` reads the same.
_SPANS: Final = {"days": 86_400, "h": 3_600, "min": 60}
_SIZES: Final = {"TiB": 1024**4, "GiB": 1024**3, "MiB": 1024**2, "KiB": 1024}
#: What the defaults depend on, in words.
_SPECIAL_DEFAULTS = {
    "name": "this machine's short name",
    "state": "`$XDG_STATE_HOME/librarian`",
    "limits.workers": "one per core, at most 8",
    "stores": "one, in the state folder",
}


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """One line of the page."""

    section: str
    key: str
    kind: str
    default: str
    description: str


def rows() -> list[SettingRow]:
    """Every key that can be set, sections after the top level."""
    return [*_rows_of(Settings, "")]


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    found = rows()
    for section in dict.fromkeys(row.section for row in found):
        title = f"`{section}`" if section else "Top level"
        parts.append(f"\n## {title}\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |")
        parts += [
            f"| `{row.key}` | {row.kind} | {row.default} | {row.description} |"
            for row in found
            if row.section == section
        ]
    return "\n".join(parts) + "\n"


def _rows_of(model: type[BaseModel], section: str) -> Iterator[SettingRow]:
    nested: list[tuple[str, type[BaseModel]]] = []
    # What a model takes over from another comes first in it; a reader looks for the name first.
    for key, field in sorted(model.model_fields.items(), key=lambda item: item[0] != "name"):
        inner, is_list = _model_in(field.annotation)
        place = f"{section.strip('[]')}.{key}".lstrip(".")
        if inner is not None:
            nested.append((f"[[{key}]]" if is_list else f"[{place}]", inner))
        yield SettingRow(
            section=section,
            key=key,
            kind="tables" if is_list and inner else "table" if inner else _kind_of(field),
            default=_default(field, place),
            description=(field.description or "").replace("|", "\\|"),
        )
    for place, inner in nested:
        yield from _rows_of(inner, place)


def _model_in(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate, typing.get_origin(annotation) is tuple
    return None, False


def _kind_of(field: FieldInfo) -> str:
    return "size" if _is_size(field) else _kind(field.annotation)


def _is_size(field: FieldInfo) -> bool:
    # pydantic takes the outermost annotation apart; one within a union stays whole.
    hidden = [part for union in typing.get_args(field.annotation) for part in typing.get_args(union)]
    return any(isinstance(each, BeforeValidator) and each.func is parse_size for each in (*field.metadata, *hidden))


def _kind(annotation: object) -> str:
    if typing.get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        return "list of text"
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(_kind(part) for part in typing.get_args(annotation) if part is not type(None))
    if typing.get_origin(annotation) is typing.Annotated:
        return _kind(typing.get_args(annotation)[0])
    names = {str: "text", uuid.UUID: "id", int: "number", bool: "true/false", timedelta: "span", Path: "path"}
    return names.get(annotation, str(annotation)) if isinstance(annotation, type) else str(annotation)


def _default(field: FieldInfo, place: str) -> str:
    if place in _SPECIAL_DEFAULTS:
        return _SPECIAL_DEFAULTS[place]
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value in (None, ()):
        return "–"
    if isinstance(value, timedelta):
        return f"`{_in_units(int(value.total_seconds()), _SPANS, 's')}`"
    if _is_size(field):
        return f"`{_in_units(value, _SIZES, 'B')}`"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"


def _in_units(count: int, units: dict[str, int], smallest: str) -> str:
    """*count* in the largest of *units* that leaves no fraction."""
    unit = next((unit for unit, size in units.items() if count and count % size == 0), None)
    return f"{count} {smallest}" if unit is None else f"{count // units[unit]} {unit}"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201
