"""Misfits: what a store cannot keep goes to another one, and somebody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian.catalog.misfits import Misfit
from librarian.drives import misfit_cause
from librarian.errors import BadName, LibrarianError, TooLarge
from librarian.quantities import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.catalog.transaction import Transaction
    from librarian.names import FileId, FileName, StoreName

#: How a store says that it can never keep something.
NEVER: Final = (BadName, TooLarge)


async def note(tx: Transaction, store: StoreName, refused: Sequence[tuple[FileId, FileName, LibrarianError]]) -> None:
    """*store* is not tried again for what it has *refused*, each for a reason of ``NEVER``."""
    if not refused:
        return
    await tx.misfits.add([Misfit(file_id=file_id, store=store, reason=error.message) for file_id, _, error in refused])
    _, name, error = refused[0]
    await tx.alerts.raise_alert(
        misfit_cause(store),
        message=f"{store} cannot keep {counted(len(refused))}, {name} among them: {error.message}",
        remedy="They go onto a drive or store with ext4 or XFS, which keep every name and size, if the rule names one "
        f"and it is here. All else goes onto {store}.",
    )
