"""Telling people where they are: a row beside the change that it tells of, and a task that delivers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from librarian.catalog.transaction import Transaction


async def notify(tx: Transaction, *, cause: str, text: str) -> None:
    """Have people told *text*, in the transaction of what it tells of. Alerts do this by themselves.

    Parameters
    ----------
    cause: what makes two of them the same, told once within a while: ``drive:A07:sealed:<round>``.
    """
    await tx.notifications.put(cause, text)
