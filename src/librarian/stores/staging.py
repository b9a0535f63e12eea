"""Staging: a store's waiting room, where each arriving payload has a directory named by its token."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from librarian import guard
from librarian.errors import LibrarianError, NotFound, SourceChanged, StoreUnavailable
from librarian.states import Kind
from librarian.stores import base, ground, parts, places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.names import MemberPath, Token
    from librarian.stores.base import Staged
    from librarian.stores.ground import Ground


def make(here: Ground, tokens: Sequence[Token]) -> None:
    """Make ``<token>/`` for each of *tokens*, with the store's mode and group. A repeat does nothing."""
    for token in tokens:
        here.trip.beat()
        _make_one(here, token)
    guard.step("directory made")


def _make_one(here: Ground, token: Token) -> None:
    mode, gid = ground.token_mode(here.spec), here.footing.gid
    try:
        os.mkdir(token, 0o700, dir_fd=here.staging_fd)
    except FileExistsError:
        status = parts.status_of(token, at=here.staging_fd)
        if status is None or not stat.S_ISDIR(status.st_mode) or status.st_uid != here.footing.uid:
            raise StoreUnavailable(
                f"something else stands in staging of store '{here.spec.name}' under a token",
                remedy="Let the server's user alone write the staging area itself.",
            ) from None
    if gid is not None:
        os.chown(token, -1, gid, dir_fd=here.staging_fd, follow_symlinks=False)
    if mode != 0o700:
        # Not by mkdir, which the umask would cut down. After chown, which may clear the setgid bit.
        os.chmod(token, mode, dir_fd=here.staging_fd)


def lay_probe(here: Ground) -> str:
    """Make the file by which others find out that they share staging; its name. A repeat does nothing."""
    name = places.shared_probe(here.footing.uuid)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    if parts.status_of(name, at=here.staging_fd) is None:
        os.close(os.open(name, flags, 0o444, dir_fd=here.staging_fd))
    return name


def locate(here: Ground, token: Token) -> tuple[str, os.stat_result] | None:
    """Where the payload of *token* is (the private one first) and what it is; None when there is none."""
    for place in (places.private(token), places.staged(token)):
        status = parts.status_of(place, at=here.staging_fd)
        if status is not None:
            return place, status
    return None


def inspect(here: Ground, tokens: Sequence[Token]) -> list[Staged | LibrarianError]:
    """Look at what stands under each of *tokens*; see ``Store.inspect``."""
    answers: list[Staged | LibrarianError] = []
    for token in tokens:
        here.trip.beat()
        try:
            answers.append(_inspect_one(here, token))
        except LibrarianError as refusal:
            answers.append(refusal)
        except OSError as error:
            answers.append(here.refusal(error, f"look at staged '{token}'"))
    return answers


def _inspect_one(here: Ground, token: Token) -> Staged:
    status = parts.status_of(places.private(token), at=here.staging_fd)
    if status is not None:
        return _look(here, token, places.private(token), status, is_trusted=True)
    _bring_back(here, token)
    place = places.staged(token)
    status = parts.status_of(place, at=here.staging_fd)
    if status is None:
        raise NotFound(
            f"nothing is staged under '{token}' on store '{here.spec.name}'",
            remedy=f"Bring the bytes to '{here.spec.staging / place}' first.",
        )
    found = _look(here, token, place, status)
    if found.is_ours and ground.is_open_to_others(here.spec):
        return _seclude(here, found)
    return found


def _look(here: Ground, token: Token, place: str, status: os.stat_result, *, is_trusted: bool = False) -> Staged:
    parts.require_supported(status.st_mode, "")
    is_ours = is_trusted or here.is_ours(status)
    if stat.S_ISREG(status.st_mode):
        kind, size, members = Kind.FILE, status.st_size, 0
    else:
        kind, size, members = Kind.BOOK, 0, 0
        top_fd = os.open(place, parts.DIRECTORY, dir_fd=here.staging_fd)
        try:
            for part in parts.walk(top_fd):
                here.trip.beat()
                parts.require_supported(part.status.st_mode, part.path)
                parts.member_path(part.path)
                is_ours = is_ours and (is_trusted or here.is_ours(part.status))
                if not part.is_directory:
                    size += part.status.st_size
                    members += 1
        finally:
            os.close(top_fd)
    path = here.spec.staging / place
    return base.Staged(token=token, kind=kind, size=size, members=members, is_ours=is_ours, path=path)


def _seclude(here: Ground, found: Staged) -> Staged:
    """Move what is ours to where nobody else can exchange it, and look again, for it may just have been exchanged."""
    token, arriving = found.token, places.arriving(found.token)
    make_private(here, token)
    os.rename(places.staged(token), arriving, src_dir_fd=here.staging_fd, dst_dir_fd=here.staging_fd)
    status = os.stat(arriving, dir_fd=here.staging_fd, follow_symlinks=False)
    again = _look(here, token, arriving, status)
    if not again.is_ours:
        _bring_back(here, token)
        raise SourceChanged(
            f"the payload staged under '{token}' changed while it was looked at",
            remedy="Commit it when it is complete.",
        )
    place = places.private(token)
    os.rename(arriving, place, src_dir_fd=here.staging_fd, dst_dir_fd=here.staging_fd)
    return _look(here, token, place, status, is_trusted=True)


def _bring_back(here: Ground, token: Token) -> None:
    """Undo a seclusion that a crash or an exchange cut off, unless other bytes were brought since."""
    if not ground.is_open_to_others(here.spec) or parts.status_of(places.staged(token), at=here.staging_fd) is not None:
        return
    try:
        os.rename(places.arriving(token), places.staged(token), src_dir_fd=here.staging_fd, dst_dir_fd=here.staging_fd)
    except FileNotFoundError:
        return


def make_private(here: Ground, token: Token) -> None:
    """Make the directory that only the server may enter, for *token*. A repeat does nothing."""
    try:
        os.mkdir(f"{places.PRIVATE}/{token}", 0o700, dir_fd=here.staging_fd)
    except FileExistsError:
        return


def clear(here: Ground, tokens: Sequence[Token]) -> list[Token]:
    """Remove all that stands in staging under *tokens*; returns those where something could not be removed."""
    left = []
    for token in tokens:
        here.trip.beat()
        cleared = [_clear_place(here, place) for place in (token, f"{places.PRIVATE}/{token}")]
        if not all(cleared):
            left.append(token)
    return left


def _clear_place(here: Ground, place: str) -> bool:
    try:
        os.rmdir(place, dir_fd=here.staging_fd)
    except FileNotFoundError:
        return True
    except OSError:
        return parts.remove_tree(place, at=here.staging_fd, beat=here.trip.beat)
    return True


def sizes(here: Ground, tokens: Sequence[Token]) -> dict[Token, int]:
    """Bytes in staging per token, private copies included; absent tokens are left out."""
    found: dict[Token, int] = {}
    for token in tokens:
        here.trip.beat()
        there = [_size_of(here, place) for place in (token, f"{places.PRIVATE}/{token}")]
        if there[0] is not None or there[1] is not None:
            found[token] = sum(size or 0 for size in there)
    return found


def _size_of(here: Ground, place: str) -> int | None:
    try:
        top_fd = os.open(place, parts.DIRECTORY, dir_fd=here.staging_fd)
    except OSError:
        return None
    size = 0
    try:
        for part in parts.walk(top_fd):
            here.trip.beat()
            size += part.status.st_size if stat.S_ISREG(part.status.st_mode) else 0
    except (OSError, LibrarianError):
        # Somebody is writing there, or hides a directory from us: what could be counted is the answer.
        return size
    finally:
        os.close(top_fd)
    return size


def member_size(here: Ground, token: Token, member: MemberPath | None) -> int | None:
    """Bytes of one staged file; None when there is no such file. Links are not followed: others may have put them."""
    found = locate(here, token)
    if found is None or member is None:
        return _regular_size(found[1] if found else None)
    try:
        fd = parts.open_below(found[0], at=here.staging_fd)
        for name in member.split("/")[:-1]:
            fd = parts.open_below(name, at=fd, closing=True)
    except FileNotFoundError:
        return None
    try:
        return _regular_size(parts.status_of(member.rpartition("/")[2], at=fd))
    finally:
        os.close(fd)


def _regular_size(status: os.stat_result | None) -> int | None:
    return status.st_size if status is not None and stat.S_ISREG(status.st_mode) else None


def members(here: Ground, token: Token) -> dict[MemberPath | None, int]:
    """Bytes per member of what stands under *token*; the key None is a file's own; empty when there is nothing."""
    found = locate(here, token)
    if found is None:
        return {}
    place, status = found
    parts.require_supported(status.st_mode, "")
    if stat.S_ISREG(status.st_mode):
        return {None: status.st_size}
    present: dict[MemberPath | None, int] = {}
    top_fd = os.open(place, parts.DIRECTORY, dir_fd=here.staging_fd)
    try:
        for part in parts.walk(top_fd):
            here.trip.beat()
            parts.require_supported(part.status.st_mode, part.path)
            if not part.is_directory:
                present[parts.member_path(part.path)] = part.status.st_size
    finally:
        os.close(top_fd)
    return present
