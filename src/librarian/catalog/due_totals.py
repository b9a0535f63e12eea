"""The totals of copies due, kept in the transaction that changes what they count."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from sqlalchemy import exists, select

from librarian.catalog import rows
from librarian.catalog.records import Tally
from librarian.catalog.schema import CopyDueRow, RuleRow
from librarian.catalog.tallies import Tallies
from librarian.names import PeerId, RuleId
from librarian.states import DueState, RuleWay

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

#: The way of a row's rule, for what an UPDATE or DELETE returns. An INSERT would look at other rows.
WAY_OF: Final = (
    select(RuleRow.way).where(RuleRow.id == CopyDueRow.rule_id).correlate(CopyDueRow).scalar_subquery().label("way")
)
#: What ``add`` needs of a row.
COUNTED: Final = (CopyDueRow.rule_id, WAY_OF, CopyDueRow.peer_id, CopyDueRow.state, CopyDueRow.size)


def is_of(way: RuleWay) -> ColumnElement[bool]:
    """Rows of rules of that *way*; asked row by row, for they are found by other columns."""
    return exists().where(RuleRow.id == CopyDueRow.rule_id, rows.one_of(RuleRow.way, way)).correlate(CopyDueRow)


#: Rows that are sent over the network.
IS_SENT: Final = is_of(RuleWay.NETWORK)


def due_subject(peer: PeerId) -> str:
    """The tally of copies that are due for *peer* over the network, but for those in quarantine."""
    return f"due:{peer}"


def quarantined_subject(peer: PeerId) -> str:
    """The tally of copies for *peer* that are in quarantine, whatever the way."""
    return f"quarantined:{peer}"


def loading_subject(rule: RuleId) -> str:
    """The tally of copies that are due for *rule* on stores or drives of ours, and on none yet, nor in quarantine."""
    return f"loading:{rule}"


def _subject_of(row: rows.Found, way: str) -> str | None:
    if row.state == DueState.QUARANTINED:
        return quarantined_subject(PeerId(row.peer_id))
    return None if row.state == DueState.LOADED else waiting_subject(row, way)


def waiting_subject(row: rows.Found, way: str) -> str:
    """The tally that a row (``rule_id``, ``peer_id``) counts in which is due, its rule being of that *way*."""
    return due_subject(PeerId(row.peer_id)) if way == RuleWay.NETWORK else loading_subject(RuleId(row.rule_id))


async def add(connection: AsyncConnection, dialect: str, changed: Iterable[rows.Found], *, sign: int) -> int:
    """Add rows (``COUNTED``) that came to the totals, or with *sign* -1 take away those that went; how many."""
    found = ((_subject_of(row, row.way), 1, row.size) for row in changed)
    return await _add(connection, dialect, found, sign=sign)


async def add_new(
    connection: AsyncConnection, dialect: str, new: Iterable[rows.Found], *, ways: Mapping[RuleId, RuleWay]
) -> int:
    """Add rows that were just written for rules of these *ways*; how many."""
    found = ((_subject_of(row, ways[row.rule_id]), 1, row.size) for row in new)
    return await _add(connection, dialect, found, sign=1)


async def add_groups(connection: AsyncConnection, dialect: str, groups: Iterable[rows.Found], *, sign: int) -> int:
    """The same of groups of rows, each with ``files`` and ``bytes``."""
    found = ((_subject_of(row, row.way), row.files, row.bytes) for row in groups)
    return await _add(connection, dialect, found, sign=sign)


async def add_loading(connection: AsyncConnection, dialect: str, changed: Iterable[rows.Found], *, sign: int) -> None:
    """Add copies (rule_id, size) to what is still to be loaded, or with *sign* -1 take them away."""
    found = ((loading_subject(RuleId(row.rule_id)), 1, row.size) for row in changed)
    await _add(connection, dialect, found, sign=sign)


async def _add(
    connection: AsyncConnection, dialect: str, changed: Iterable[tuple[str | None, int, int]], *, sign: int
) -> int:
    """Add (subject, files, bytes) to the totals; those without a subject count in none. Returns how many files."""
    files: defaultdict[str, int] = defaultdict(int)
    size: defaultdict[str, int] = defaultdict(int)
    rows_changed = 0
    for subject, count, each in changed:
        rows_changed += count
        if subject is not None:
            files[subject] += sign * count
            size[subject] += sign * int(each)
    totals = {subject: Tally(files=files[subject], bytes=size[subject]) for subject in files}
    await Tallies(connection, dialect).add_many(totals)
    return rows_changed
