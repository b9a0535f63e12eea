"""What commands take: secrets from files or from the terminal, and values that must fit a request."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from pydantic import BaseModel, SecretStr, ValidationError

from librarian.errors import BadRequest

M = TypeVar("M", bound=BaseModel)

#: Standard input; on a terminal it is asked for, unseen.
STDIN: Final = "-"
PasswordFile = Annotated[
    str,
    typer.Option(
        "--password-file", metavar="FILE", help="Holds the password, on its first line; '-' asks, or reads a pipe."
    ),
]
NewPasswordFile = Annotated[
    str | None,
    typer.Option(
        "--password-file", metavar="FILE", help="Holds the new password, on its first line; '-' asks, or reads a pipe."
    ),
]


def read_secret(file: str, *, is_new: bool = False) -> SecretStr:
    """The first line of *file*; of ``-`` that of stdin, asked for on a terminal: it never stands on a command line.

    Parameters
    ----------
    is_new: nobody else will say whether it was typed right, so that it is asked for twice.

    Raises
    ------
    BadRequest
        Unreadable or empty, or typed in two ways.
    """
    place = "standard input" if file == STDIN else file
    try:
        if file == STDIN:
            text = _ask(is_new=is_new) if sys.stdin.isatty() else sys.stdin.readline()
        else:
            text = Path(file).read_text("utf-8").partition("\n")[0]
    except UnicodeDecodeError as error:
        raise BadRequest(f"the password in {place} is not UTF-8", remedy="Write it in UTF-8.") from error
    except OSError as error:
        raise BadRequest(
            f"cannot read the password in {place}: {error.strerror}", remedy="Name a file that can be read."
        ) from error
    secret = text.rstrip("\r\n")
    if not secret:
        raise BadRequest(f"there is no password in {place}", remedy="Put it on the first line, with --password-file.")
    return SecretStr(secret)


def _ask(*, is_new: bool) -> str:
    try:
        typed = getpass.getpass("Password: ")
        if is_new and getpass.getpass("The same again: ") != typed:
            raise BadRequest("the two passwords differ", remedy="Type the same twice.")
    except EOFError:
        return ""
    return typed


def checked(model: type[M], **values: object) -> M:
    """A request body made of *values*.

    Raises
    ------
    BadRequest
        They do not fit, with every reason.
    """
    try:
        return model(**values)
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'request'}: {detail['msg']}" for detail in error.errors()
        )
        raise BadRequest(reasons, remedy="See the command's --help.") from error
