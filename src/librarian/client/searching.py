"""What to search for, as a script says it: a glob, conditions by keyword, or a whole query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypedDict

from pydantic import ValidationError

from librarian.errors import BadRequest
from librarian.wire.files import MOST_FILES, FilesQuery

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_REMEDY: Final = f"The conditions are {', '.join(sorted({*FilesQuery.model_fields} - {'cursor', 'limit'}))}."


class Conditions(TypedDict, total=False):
    """The conditions of a search, those of ``FilesQuery``: every one must hold."""

    match: str | None
    since: datetime | str | None
    until: datetime | str | None
    uploader: str | None
    origin: str | None
    store: str | None
    kind: Literal["file", "book"] | None
    min_size: int | None
    max_size: int | None
    order: Literal["newest", "name"] | None


def query_of(wanted: str | FilesQuery | None, conditions: Conditions) -> FilesQuery:
    """The query that *wanted* (a glob, or a query to start from) and *conditions* mean together.

    Pages are as long as they may be unless *wanted* says otherwise: whoever iterates wants to ask seldom.

    Raises
    ------
    BadRequest
        They make no sense, with the name of the condition.
    """
    if paging := {"cursor", "limit"} & {*conditions}:
        raise BadRequest(
            f"a search gives every file that matches and takes no {' or '.join(sorted(paging))}",
            remedy="Stop the iteration when there are enough, or ask for a page: page(FilesQuery(limit=10)).",
        )
    given: dict[str, object] = {"limit": MOST_FILES}
    if isinstance(wanted, str):
        given["match"] = wanted
    elif wanted is not None:
        given |= wanted.model_dump(exclude_unset=True)
    return read_query({**given, **conditions}, remedy=_REMEDY)


def read_query(wanted: Mapping[str, object], *, remedy: str) -> FilesQuery:
    """A query of what was given, without what is None; raises BadRequest."""
    given = {key: value for key, value in wanted.items() if value is not None}
    try:
        return FilesQuery.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", remedy=remedy) from error
