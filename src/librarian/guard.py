"""Two guards: no I/O inside a transaction, and named steps at which tests cut the power."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from librarian.errors import Bug

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_in_transaction: ContextVar[bool] = ContextVar("librarian_in_transaction", default=False)
_on_step: list[Callable[[str], None]] = []


@contextmanager
def transaction_open() -> Iterator[None]:
    """Mark the current context as being inside a transaction; the catalog enters it, nobody else."""
    before = _in_transaction.set(True)
    try:
        yield
    finally:
        _in_transaction.reset(before)


def forbid_io_in_transaction(what: str) -> None:
    """Refuse to start *what* (disk, network or process-pool work) while a transaction is open.

    Raises
    ------
    Bug
        A transaction is open: a slow disk would hold database locks.
    """
    if _in_transaction.get():
        raise Bug(f"'{what}' was started inside a transaction")


def step(name: str) -> None:
    """Pass the named step of a custody sequence. Does nothing unless an observer is installed.

    The names are listed in docs/explanation/failure-model.md; the crash tests kill the process at each.
    """
    for observe in _on_step:
        observe(name)


def observe_steps(observer: Callable[[str], None]) -> None:
    """Call *observer* with the name of each step passed from now on (the crash tests' entry point)."""
    _on_step.append(observer)
