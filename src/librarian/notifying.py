"""Telling people where they are: a row beside the change that it tells of, and a task that delivers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from librarian.catalog.records import Happening

if TYPE_CHECKING:
    from librarian.catalog.transaction import Transaction
    from librarian.names import StoreName


async def notify(tx: Transaction, *, cause: str, text: str) -> None:
    """Have people told *text*, in the transaction of what it tells of. Alerts do this by themselves.

    Parameters
    ----------
    cause: what makes two of them the same, told once within a while: ``drive:A07:sealed:<round>``.
    """
    await tx.notifications.put(cause, text)


def drive_subject(name: StoreName) -> str:
    """What the events of the drive *name* are about."""
    return f"drive:{name}"


async def tell_of_drive(tx: Transaction, name: StoreName, what: str, *, round_: int, who: str, why: str) -> None:
    """Write what became of the drive *name* in a round into its story, and have people told."""
    subject = drive_subject(name)
    await tx.events.tell([Happening(subject=subject, what=what, who=who, why=why)])
    await notify(tx, cause=f"{subject}:{what}:{round_}", text=f"Drive {name} was {what} by {who}: {why}.")
