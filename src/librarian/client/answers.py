"""Reading what a librarian answers: models on success, the matching error otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from librarian import errors
from librarian.errors import BadChecksum, BadName, Bug, CallerError, LibrarianError, PeerUnavailable, Unavailable
from librarian.wire.nul import has_nul
from librarian.wire.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

#: Longest JSON answer that is read unless its caller foresees a longer one: one thing, or a page of 1,000.
ANSWER_BYTES: Final = 8 * 1024**2
#: Longest answer about thousands of items whose names may all be long.
LISTING_BYTES: Final = 64 * 1024**2
#: HTTP statuses after which the same request may succeed.
PASSING: Final = frozenset({502, 503, 504})


def _leaves(kind: type[LibrarianError]) -> Iterator[type[LibrarianError]]:
    for below in kind.__subclasses__():
        yield from _leaves(below)
    yield kind


def _by_code() -> dict[str, type[LibrarianError]]:
    # Leaves come first, so that a code that a branch shares with its leaf means the leaf.
    found: dict[str, type[LibrarianError]] = {}
    for kind in _leaves(errors.LibrarianError):
        found.setdefault(kind.code, kind)
    return found


_BY_CODE: Final = _by_code()


def error_of(problem: Problem, *, status: int) -> LibrarianError:
    """The error that *problem* stands for; a code of a newer server becomes the branch its status belongs to."""
    details: dict[str, object] = dict(problem.details)
    if problem.request_id:
        details.setdefault("request_id", problem.request_id)
    kind = _BY_CODE.get(problem.code)
    if kind is None:
        details.setdefault("code", problem.code)
        kind = CallerError if 400 <= status < 500 else Unavailable if status in PASSING else Bug
    return kind(problem.message, remedy=problem.remedy, details=details)


def refusal(raw: bytes | bytearray, *, status: int, url: str) -> LibrarianError:
    """The error that an answer with a status of 300 or more stands for."""
    try:
        problem = Problem.model_validate_json(_without_nul(raw))
    except ValidationError:
        excerpt = raw[:120].decode("utf-8", "replace")
        return PeerUnavailable(
            f"{url} answered {status} with something that no librarian says: {excerpt!r}",
            remedy="Check that the URL leads to a librarian, and what stands between.",
            details={"status": status},
        )
    return error_of(problem, status=status)


def _without_nul(raw: bytes | bytearray) -> bytes | bytearray:
    """*raw*, or nothing that could be read: no librarian says NUL, and no database of ours could keep it."""
    return b"" if has_nul(raw) else raw


def read_answer(raw: bytes | bytearray, kind: TypeAdapter[T], *, url: str) -> T:
    """Parse a successful answer.

    Raises
    ------
    PeerUnavailable
        It is not what a librarian of this protocol answers.
    """
    try:
        return kind.validate_json(_without_nul(raw))
    except (ValidationError, BadName, BadChecksum) as error:
        raise PeerUnavailable(
            f"{url} did not answer as a librarian does: {_mistake_in(error)}",
            remedy="Check that the URL leads to a librarian, and that its version is not too old.",
        ) from error


def _mistake_in(error: ValidationError | BadName | BadChecksum) -> str:
    if not isinstance(error, ValidationError):
        return error.message
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{first['msg']} at {first['loc']}"
