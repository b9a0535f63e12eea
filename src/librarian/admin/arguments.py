"""What commands take: secrets from files or from the terminal, and values that must fit a request."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
from pydantic import BaseModel, SecretStr, ValidationError

from librarian.errors import BadRequest
from librarian.quantities import parse_size

M = TypeVar("M", bound=BaseModel)

#: Standard input; on a terminal it is asked for, unseen.
STDIN: Final = "-"
#: The word for the authorities that a machine trusts.
SYSTEM: Final = "system"
#: The word for no limit.
NONE: Final = "none"
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
            text = _ask_password(is_new=is_new) if sys.stdin.isatty() else sys.stdin.readline()
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


def read_token() -> SecretStr:
    """An invitation: all of stdin, or what is typed on a terminal, unseen.

    Raises
    ------
    BadRequest
        There is none.
    """
    text = _ask("Invitation: ") if sys.stdin.isatty() else sys.stdin.read()
    if not text.strip():
        raise BadRequest("there is no invitation in standard input", remedy="Give the line that 'peer invite' printed.")
    return SecretStr(text)


def read_authority(file: str | None) -> str | None:
    """The PEM in *file*; empty for the word ``system``, which means those that the server's machine trusts.

    Raises
    ------
    BadRequest
        It cannot be read, or is no certificate alone.
    """
    if file is None or file == SYSTEM:
        return None if file is None else ""
    try:
        text = Path(file).read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read {file}: {error}", remedy="Name a PEM file that holds a certificate.") from error
    if "BEGIN CERTIFICATE" not in text or "PRIVATE KEY" in text:
        raise BadRequest(f"{file} holds no certificate, or a key as well", remedy="Name a PEM file with certificates.")
    return text


def _ask_password(*, is_new: bool) -> str:
    typed = _ask("Password: ")
    if is_new and typed and _ask("The same again: ") != typed:
        raise BadRequest("the two passwords differ", remedy="Type the same twice.")
    return typed


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        return ""


def amount(text: str | None) -> int | None:
    """Bytes as people write them, ``50MB``; 0 of ``none``, which takes a limit away; None of None.

    Raises
    ------
    BadRequest
        It is neither.
    """
    if text is None or text == NONE:
        return None if text is None else 0
    try:
        size = parse_size(text)
    except ValueError as error:
        raise BadRequest(f"{error}", remedy=f"Write a size, or '{NONE}'.") from error
    if not isinstance(size, int) or size <= 0:
        raise BadRequest(f"{text!r} lets nothing through", remedy=f"Write a size above 0, or '{NONE}' for no limit.")
    return size


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
            f"{'.'.join(map(str, detail['loc'])) or 'request'}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in error.errors()
        )
        raise BadRequest(reasons, remedy="See the command's --help.") from error
