"""The reference page of both command lines, written from the commands themselves.

``python -m librarian.admin.reference > docs/reference/commands.md``
"""

from __future__ import annotations

import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

import typer
from typer.core import TyperArgument, TyperGroup, TyperOption

from librarian.admin.commands import app as admin_app
from librarian.cli.__main__ import app as user_app

#: Both programs, and what they are called.
PROGRAMS: Final = {"librarian": user_app, "python -m librarian.admin": admin_app}
_START: Final = """\
# Commands

<!-- Written by `python -m librarian.admin.reference`; a test compares. Change the commands, not this page. -->

Two programs: `librarian` for everybody, `python -m librarian.admin` for operators. `--help` says the same as this
page, `--install-completion` teaches your shell to complete `librarian`.

**Output.** Results go to standard output; progress, notes and refusals to standard error. On a terminal, results are
tables; in a pipe, lines of tab-separated fields; with `--json`, which every command but `serve` takes, one JSON object
per line, refusals included.

**Exit codes.**

| code | meaning |
| --- | --- |
| 0 | done |
| 2 | the request cannot be granted as it is: something is missing, wrong, taken or not allowed |
| 3 | not reachable, or not able now: the same command may work later |
| 4 | bytes are not what they should be |
| 70 | a bug in librarian; please report it |
| 130 | Ctrl-C |
"""
#: Characters in a line of text.
_WIDTH: Final = 118
#: Where a description ends and its examples begin: one line, or a section of lines.
_EXAMPLES: Final = re.compile(r"^Examples?(?::\s*|\n-+\n)", re.MULTILINE)
#: What every command has is told once, at the top.
_EVERYWHERE: Final = frozenset({"--help", "--install-completion", "--show-completion", "--json"})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One command, or a program or group (``is_group``) with what its commands take before their names."""

    path: str
    text: str
    examples: tuple[str, ...]
    arguments: tuple[TyperArgument, ...]
    options: tuple[TyperOption, ...]
    is_group: bool

    @property
    def words(self) -> list[str]:
        """Every option as it is typed."""
        return [word for option in self.options for word in (*option.opts, *option.secondary_opts)]


def entries() -> list[Entry]:
    """Both programs with every group and command, in the order of their help."""
    return [entry for name, app in PROGRAMS.items() for entry in _below(name, typer.main.get_command(app))]


def _below(path: str, command: object) -> Iterator[Entry]:
    if not isinstance(command, typer.core.TyperCommand | TyperGroup):
        return
    text, *examples = _EXAMPLES.split(command.help or "")
    yield Entry(
        path=path,
        text=text.strip(),
        examples=tuple(line.strip().strip("`") for part in examples for line in part.splitlines() if line.strip()),
        arguments=tuple(each for each in command.params if isinstance(each, TyperArgument)),
        options=tuple(
            each for each in command.params if isinstance(each, TyperOption) and _EVERYWHERE.isdisjoint(each.opts)
        ),
        is_group=isinstance(command, TyperGroup),
    )
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _below(f"{path} {name}", inner)


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_START]
    for entry in entries():
        level = "##" if entry.path in PROGRAMS else "###"
        if entry.is_group and entry.path not in PROGRAMS:
            continue
        parts.append(f"{level} `{entry.path}`\n\n{_flowing(entry.text)}\n")
        if not entry.is_group:
            parts.append(f"```\n{_usage(entry)}\n```\n")
        rows = [*map(_argument, entry.arguments), *map(_option, entry.options)]
        if rows:
            parts.append("| | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
        if entry.examples:
            parts.append("\n".join(["For example:\n", "```", *entry.examples, "```\n"]))
    return "\n".join(parts)


def _flowing(text: str) -> str:
    """Paragraphs as they stand, in lines that people can read."""
    return "\n\n".join(textwrap.fill(" ".join(each.split()), _WIDTH) for each in text.split("\n\n"))


def _usage(entry: Entry) -> str:
    required = [f"{option.opts[0]} {_value(option)}" for option in entry.options if option.required]
    optional = ["[OPTIONS]"] if len(required) < len(entry.options) else []
    return " ".join([entry.path, *optional, *required, *map(_place, entry.arguments)])


def _place(argument: TyperArgument) -> str:
    name = (argument.metavar or str(argument.name).upper()).strip("[]")
    return name if argument.required else f"[{name}]"


def _argument(argument: TyperArgument) -> str:
    return _row(f"`{_place(argument).strip('[]')}`", _default(argument), argument.help)


def _option(option: TyperOption) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = "" if option.is_flag else f" `{_value(option)}`"
    named = f" Also from `{option.envvar}`." if option.envvar else ""
    return _row(f"{names}{value}", _default(option), f"{option.help or ''}{named}")


def _value(option: TyperOption) -> str:
    choices = _choices(option.type_descriptor.annotation)
    return option.metavar or choices or str(option.name).upper()


def _choices(annotation: object) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(member.value) for member in annotation)
    return next((found for part in typing.get_args(annotation) if (found := _choices(part))), "")


def _default(parameter: TyperArgument | TyperOption) -> str:
    default = parameter.default
    if parameter.required:
        return "**required**"
    if isinstance(default, Enum):
        return f"`{default.value}`"
    return "–" if default in (None, False, "") else f"`{default}`"


def _row(name: str, default: str, meaning: str | None) -> str:
    return f"| {name.replace('|', chr(92) + '|')} | {default} | {(meaning or '').replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    sys.stdout.write(page())
