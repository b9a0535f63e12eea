"""Bringing: copying payloads from another store of ours into staging, so that a bad source is found on the way."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from librarian import checksum
from librarian.errors import LibrarianError, SourceBad, SourceChanged, UnsupportedMember
from librarian.states import Kind
from librarian.stores import faults, naming, parts, places, staging
from librarian.stores.base import Barrier
from librarian.stores.copying import Copier, barrier, make_durable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.checksum import Algorithm, Measured
    from librarian.stores.base import Bringing
    from librarian.stores.ground import Ground


def bring(here: Ground, items: Sequence[Bringing], *, root_fd: int) -> list[LibrarianError | None]:
    """Copy *items* from below *root_fd*; see ``Store.bring``."""
    staging.make(here, [item.token for item in items])
    copiers: dict[Algorithm, Copier] = {}
    answers: list[LibrarianError | None] = []
    for item in items:
        here.trip.beat()
        algorithm = item.checksum.algorithm
        copier = copiers.setdefault(algorithm, Copier(trip=here.trip, algorithm=algorithm, shares=False))
        try:
            _bring_one(here, item, copier, root_fd=root_fd)
        except LibrarianError as refusal:
            answers.append(refusal)
        except OSError as error:
            answers.append(here.refusal(error, f"copy '{item.name}'"))
        else:
            answers.append(None)
    barrier(here)
    return answers


def _bring_one(here: Ground, item: Bringing, copier: Copier, *, root_fd: int) -> None:
    naming.require_alone(here, item.name)
    if not item.replaces and parts.status_of(item.name, at=here.root_fd) is not None:
        return
    copier.unreadable = partial(_unreadable, item)
    place = places.staged(item.token)
    naming.require_keepable(here, item.token, item.name)
    parts.remove_tree(place, at=here.staging_fd, beat=here.trip.beat)
    try:
        measured = _copy(item, copier, place, source_fd=root_fd, target_fd=here.staging_fd)
    except (SourceChanged, UnsupportedMember) as error:
        raise _bad(item, error.message) from error
    if measured.checksum != item.checksum:
        raise _bad(item, f"it reads as {measured.checksum}")
    if item.kind is Kind.BOOK:
        naming.require_same(here, (member.path for member in measured.members), place)
    if here.spec.barrier is Barrier.FSYNC:
        make_durable(here, place)


def _copy(item: Bringing, copier: Copier, place: str, *, source_fd: int, target_fd: int) -> Measured:
    *above, leaf = item.name.split("/")
    fd = os.dup(source_fd)
    try:
        for part in above:
            try:
                with copier.trip.abroad():
                    fd = parts.open_below(part, at=fd, closing=True)
            except OSError as error:
                fd = -1
                raise _unreadable(item, error) from error
        if item.kind is Kind.BOOK:
            return copier.copy_book(leaf, place, source_fd=fd, target_fd=target_fd)
        digest, size = copier.copy_file(leaf, place, source_fd=fd, target_fd=target_fd, halfway=0)
        return checksum.measured_file(size, copier.algorithm, digest)
    finally:
        if fd >= 0:
            os.close(fd)


def _unreadable(item: Bringing, error: OSError) -> Exception:
    # A store that is gone says nothing about the copies on it.
    return error if error.errno in faults.LOST else _bad(item, error.strerror or str(error))


def _bad(item: Bringing, why: str) -> SourceBad:
    return SourceBad(
        f"the copy of '{item.name}' that was to be copied is not {item.checksum}: {why}",
        remedy="It is read again, and no source meanwhile; 'why' tells what was found.",
    )
