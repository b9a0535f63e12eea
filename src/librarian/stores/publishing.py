"""Publishing: payloads get their names, once and for all, in an order that no crash can spoil.

Read-only modes and content first, then the data barrier, then the renames, then the directory barrier. A crash
between any two of these leaves a state that a repeat recognises; see ``_look``.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from librarian import guard
from librarian.errors import LibrarianError, NameNested, UnsupportedMember, WrongState
from librarian.states import Kind
from librarian.stores import ground, naming, parts, places, staging, syscalls
from librarian.stores.base import Barrier, Publishing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from librarian.stores.base import Publication
    from librarian.stores.ground import Ground

_OCCUPIED: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR})


@dataclass(frozen=True, kw_only=True)
class _Move:
    """A payload that is to get its name."""

    item: Publication
    source: str
    status: os.stat_result
    #: An empty directory under the name is our own claim: rename onto it.
    is_claimed: bool = False


def publish(here: Ground, items: Sequence[Publication]) -> list[Publishing | LibrarianError]:
    """Publish *items* behind one pair of barriers; see ``Store.publish``."""
    return _Batch(here, items).run()


class _Batch:
    """The payloads of one publication, and which directories it touches."""

    def __init__(self, here: Ground, items: Sequence[Publication]) -> None:
        self._here = here
        self._items = items
        self._answers: list[Publishing | LibrarianError] = [Publishing.PAYLOAD_MISSING] * len(items)
        #: Parents seen to be directories of ours, as paths below the root; "." is the root.
        self._parents: dict[str, None] = {}

    def run(self) -> list[Publishing | LibrarianError]:
        moves = self._prepare_all()
        if moves:
            self._data_barrier()
            guard.step("first barrier")
            self._rename_all(moves)
        standing = [at for at, answer in enumerate(self._answers) if isinstance(answer, Publishing)]
        standing = [at for at in standing if self._answers[at] is not Publishing.PAYLOAD_MISSING]
        if standing:
            for at in standing:
                self._answer(at, partial(self._settle, at))
            self._directory_barrier()
            guard.step("second barrier")
        return self._answers

    def _answer(self, at: int, act: Callable[[], None]) -> None:
        """Do *act* for the item at *at*; a refusal becomes its answer and stops no other item."""
        self._here.trip.beat()
        try:
            act()
        except LibrarianError as refusal:
            self._answers[at] = refusal
        except OSError as error:
            self._answers[at] = self._here.refusal(error, f"publish '{self._items[at].name}'")

    def _prepare_all(self) -> dict[int, _Move]:
        moves: dict[int, _Move] = {}

        def prepare(at: int) -> None:
            found = self._look(self._items[at])
            if isinstance(found, Publishing):
                self._answers[at] = found
                return
            self._prepare(found)
            moves[at] = found

        for at in range(len(self._items)):
            self._answer(at, partial(prepare, at))
        return moves

    def _look(self, item: Publication) -> _Move | Publishing:
        """What to do about *item*, from what stands in staging and under the name."""
        here = self._here
        naming.require_alone(here, item.name)
        source = staging.locate(here, item.token)
        try:
            target = parts.status_of(item.name, at=here.root_fd)
        except NotADirectoryError:
            raise _nested(item.name, "a file stands above it") from None
        if source is None:
            return Publishing.PAYLOAD_MISSING if target is None else Publishing.NAME_ONLY
        place, status = source
        if target is None:
            return _Move(item=item, source=place, status=status)
        if (target.st_dev, target.st_ino) == (status.st_dev, status.st_ino):
            # A crash came between link and unlink: the name is complete.
            os.unlink(place, dir_fd=here.staging_fd)
            return Publishing.PUBLISHED
        both_books = stat.S_ISDIR(status.st_mode) and stat.S_ISDIR(target.st_mode)
        if (
            both_books
            and parts.is_empty_directory(item.name, at=here.root_fd)
            and not parts.is_empty_directory(place, at=here.staging_fd)
        ):
            return _Move(item=item, source=place, status=status, is_claimed=True)
        return Publishing.NAME_TAKEN

    def _prepare(self, move: _Move) -> None:
        """Make a payload read-only (a book's top aside) and, where each file has its own barrier, durable."""
        here, item = self._here, move.item
        naming.require_keepable(here, item.token, item.name)
        is_book = stat.S_ISDIR(move.status.st_mode)
        parts.require_supported(move.status.st_mode, "")
        if is_book is not (item.kind is Kind.BOOK):
            raise UnsupportedMember(f"the payload of '{item.name}' is no {item.kind}", remedy="Send it anew.")
        is_private = move.source.startswith(places.PRIVATE)
        if not is_private and ground.is_open_to_others(here.spec):
            raise WrongState(
                f"the payload of '{item.name}' lies where others write", remedy="Inspect it, and measure it then."
            )
        if is_book:
            self._prepare_book(move, is_private=is_private)
            return
        self._require_ours(move.status, item, is_private=is_private)
        self._fix(move.source, at=here.staging_fd, status=move.status)

    def _prepare_book(self, move: _Move, *, is_private: bool) -> None:
        # A directory that changes its parent must be writable, for its '..' changes: its own mode waits.
        if move.status.st_mode & 0o700 != 0o700:
            os.chmod(move.source, places.PARENT_MODE, dir_fd=self._here.staging_fd)
        top_fd = os.open(move.source, parts.DIRECTORY, dir_fd=self._here.staging_fd)
        try:
            self._require_ours(move.status, move.item, is_private=is_private)
            for part in parts.walk(top_fd):
                self._here.trip.beat()
                parts.require_supported(part.status.st_mode, part.path)
                self._require_ours(part.status, move.item, is_private=is_private)
                self._fix(part.name, at=part.parent_fd, status=part.status)
            if self._here.spec.barrier is Barrier.FSYNC:
                os.fsync(top_fd)
        finally:
            os.close(top_fd)

    def _require_ours(self, status: os.stat_result, item: Publication, *, is_private: bool) -> None:
        is_ours = status.st_uid == self._here.footing.uid if is_private else self._here.is_ours(status)
        if not is_ours:
            raise WrongState(
                f"a part of the payload of '{item.name}' belongs to others, or has another link",
                remedy="Take a private copy first.",
            )

    def _fix(self, name: str, *, at: int, status: os.stat_result) -> None:
        mode = places.BOOK_MODE if stat.S_ISDIR(status.st_mode) else places.FILE_MODE
        if stat.S_IMODE(status.st_mode) != mode:
            os.chmod(name, mode, dir_fd=at)
        if self._here.spec.barrier is Barrier.FSYNC:
            with self._here.trip.barrier():
                parts.fsync_at(name, at=at)

    def _data_barrier(self) -> None:
        if self._here.spec.barrier is Barrier.SYNCFS:
            with self._here.trip.barrier():
                syscalls.syncfs(self._here.root_fd)

    def _rename_all(self, moves: dict[int, _Move]) -> None:
        for done, (at, move) in enumerate(moves.items()):
            if done == len(moves) // 2:
                guard.step("k of n renames")
            self._answer(at, partial(self._rename_one, at, move))

    def _rename_one(self, at: int, move: _Move) -> None:
        self._require_parents(move.item)
        try:
            self._rename(move)
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
            self._answers[at] = Publishing.NAME_TAKEN
        else:
            self._answers[at] = Publishing.PUBLISHED

    def _require_parents(self, item: Publication) -> None:
        """Make the directories above the name. A book is no parent: what enters it would falsify it."""
        self._parents["."] = None
        for ancestor in item.name.ancestors:
            if ancestor in self._parents:
                continue
            try:
                os.mkdir(ancestor, places.PARENT_MODE, dir_fd=self._here.root_fd)
                # Whatever the umask is: whoever receives a drive is another user, and must come in.
                os.chmod(ancestor, places.PARENT_MODE, dir_fd=self._here.root_fd)
            except FileExistsError:
                naming.require_alone(self._here, ancestor)
                mode = os.stat(ancestor, dir_fd=self._here.root_fd, follow_symlinks=False).st_mode
                if not stat.S_ISDIR(mode):
                    raise _nested(item.name, f"'{ancestor}' is not a directory") from None
                if not mode & stat.S_IWUSR:
                    raise _nested(item.name, f"'{ancestor}' is a book") from None
            self._parents[ancestor] = None

    def _rename(self, move: _Move) -> None:
        """Rename, never over anything; raises one of ``_OCCUPIED`` when something stands there."""
        source, target = move.source, move.item.name
        source_fd, target_fd = self._here.staging_fd, self._here.root_fd
        if move.is_claimed:
            os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        elif self._here.footing.has_noreplace:
            syscalls.rename_noreplace(source, target, source_fd=source_fd, target_fd=target_fd)
        elif move.item.kind is Kind.FILE:
            os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
            os.unlink(source, dir_fd=source_fd)
        else:
            # Only one can make the directory; a rename onto an empty directory then replaces it.
            os.mkdir(target, places.PARENT_MODE, dir_fd=target_fd)
            try:
                os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
            except OSError:
                with suppress(OSError):
                    os.rmdir(target, dir_fd=target_fd)
                raise

    def _settle(self, at: int) -> None:
        """Finish what stands under the name: its mode, and its own durability where each file has its barrier.

        Also when an earlier pass published it and was cut off before its second barrier.
        """
        here, item, answer = self._here, self._items[at], self._answers[at]
        if answer is not Publishing.PUBLISHED:
            # Of two that came together, the second may have met the first.
            naming.require_alone(here, item.name)
        self._require_parents(item)
        if answer is Publishing.PUBLISHED and item.kind is Kind.FILE:
            return
        is_each = here.spec.barrier is Barrier.FSYNC
        if answer is not Publishing.NAME_TAKEN:
            status = os.stat(item.name, dir_fd=here.root_fd, follow_symlinks=False)
            mode = places.BOOK_MODE if stat.S_ISDIR(status.st_mode) else places.FILE_MODE
            is_fixable = status.st_uid == here.footing.uid and not stat.S_ISLNK(status.st_mode)
            if is_fixable and stat.S_IMODE(status.st_mode) != mode:
                os.chmod(item.name, mode, dir_fd=here.root_fd)
        if is_each and answer is not Publishing.PUBLISHED:
            self._fsync_standing(item.name)
        elif is_each and item.kind is Kind.BOOK:
            parts.fsync_at(item.name, at=here.root_fd)

    def _fsync_standing(self, name: str) -> None:
        status = os.stat(name, dir_fd=self._here.root_fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            top_fd = os.open(name, parts.DIRECTORY, dir_fd=self._here.root_fd)
            try:
                for part in parts.walk(top_fd):
                    self._here.trip.beat()
                    parts.fsync_at(part.name, at=part.parent_fd)
            finally:
                os.close(top_fd)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            parts.fsync_at(name, at=self._here.root_fd)

    def _directory_barrier(self) -> None:
        with self._here.trip.barrier():
            if self._here.spec.barrier is Barrier.SYNCFS:
                syscalls.syncfs(self._here.root_fd)
                return
            for parent in self._parents:
                self._here.trip.beat()
                parts.fsync_at(parent, at=self._here.root_fd)


def _nested(name: str, why: str) -> NameNested:
    return NameNested(f"'{name}' cannot be published: {why}", remedy="Choose a name that lies in no file or book.")
