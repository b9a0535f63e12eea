"""What commands take: secrets from files, and values that must fit a request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel, SecretStr, ValidationError

from librarian.errors import BadRequest

M = TypeVar("M", bound=BaseModel)

PasswordFile = Annotated[str, typer.Option("--password-file", help="The password's file; '-' reads stdin.")]


def read_secret(file: str) -> SecretStr:
    """The first line of *file*, ``-`` meaning stdin: a password never stands on a command line.

    Raises
    ------
    BadRequest
        Unreadable or empty.
    """
    try:
        text = sys.stdin.readline() if file == "-" else Path(file).read_text("utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read the password from {file}: {error}", remedy="Name a readable file.") from error
    secret = text.rstrip("\r\n")
    if not secret:
        raise BadRequest(f"there is no password in {file}", remedy="Put it on the first line.")
    return SecretStr(secret)


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
