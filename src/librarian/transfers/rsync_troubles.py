"""What went wrong with a run of rsync: of which items, and whether it passes, or asks for a person.

The lines may come from the other end, which says in them what it likes: they decide about its own items alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.errors import ConfigurationError, Forbidden, LibrarianError, NoRoom, PeerUnavailable, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

#: rsync's exit codes (its manual, "EXIT VALUES"): some of it did not arrive; a source vanished.
PARTIAL: Final = frozenset({23, 24})
#: Syntax, versions, actions that are not supported; the shell found no rsync there.
_MISFIT: Final = frozenset({1, 2, 4, 126, 127})
#: A line that says where it went wrong, such as "rsync: [sender] link_stat …".
_ROLE: Final = re.compile(r"\[(sender|receiver|generator)\]", re.IGNORECASE)
#: Lines of versions that name no end in them.
_OF_THE_SENDER: Final = (
    "file has vanished",
    "symlink has no referent",
    "rsync: link_stat",
    "rsync: opendir",
    "rsync: read errors mapping",
    "rsync: send",
)
_TOKEN: Final = re.compile(r"[0-9a-f]{32}")
#: The number of the system's error that ends a line.
_ERRNO: Final = re.compile(r"\((\d+)\)\s*$")
#: ENOSPC and EDQUOT; EPERM, EACCES, and ENOENT, which rsync tells of files that it may not make; EIO, EROFS, ESTALE.
_FULL: Final = frozenset({28, 122})
_DENIED: Final = frozenset({1, 2, 13})
_PASSING: Final = frozenset({5, 30, 116})
_LONGEST: Final = 300


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of what rsync, ssh and the other end said."""

    text: str

    @property
    def is_of_the_sender(self) -> bool:
        """Whether it went wrong at our end; older versions do not name theirs in every line."""
        role = _ROLE.search(self.text)
        if role is not None:
            return role[1].lower() == "sender"
        return self.text.startswith(_OF_THE_SENDER)

    @property
    def errno(self) -> int | None:
        """The number of the system's error, where one is told."""
        found = _ERRNO.search(self.text)
        return None if found is None else int(found[1])

    @property
    def blame(self) -> str:
        """Why the item that is named in it failed; empty where that passes, or is nothing."""
        if self.is_of_the_sender:
            return f"cannot read it at the sender: {self.text}"
        if self.text.startswith("ERROR: "):
            return f"it did not arrive as it was sent: {self.text}"
        if self.errno is None or self.errno in _FULL | _DENIED | _PASSING:
            return ""
        return f"cannot write it at the receiver: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended, and what was said."""

    code: int
    lines: tuple[Line, ...]

    def failures(self, tokens: Collection[str]) -> dict[str, str]:
        """Why each of *tokens* failed that did: what could not be read here, or cannot be written there as it is."""
        found: dict[str, str] = {}
        for line in self.lines:
            reason = line.blame
            for token in _TOKEN.findall(line.text):
                if reason and token in tokens:
                    found.setdefault(token, reason)
        return found

    def trouble(self, whom: str) -> LibrarianError | None:
        """What is wrong apart from single items; None where nothing is."""
        told = self.told
        there = {line.errno for line in self.lines if not line.is_of_the_sender}
        for errors, kind, remedy in _AT_THE_RECEIVER:
            if there & errors:
                return kind(f"cannot write into the staging of {whom}: {told}", remedy=remedy)
        if self.code in (0, *PARTIAL):
            return None
        # What rsync says of files ends with a number; the rest is of ssh, the shell there, or rsync as a whole.
        text = "\n".join(line.text for line in self.lines if line.errno is None).lower()
        for words, kind, remedy in _FROM_SSH:
            if any(each in text for each in words):
                return kind(f"ssh does not come to {whom}: {told}", remedy=remedy)
        if self.code in _MISFIT or "rrsync error" in text:
            return ConfigurationError(
                f"the rsync of {whom} does not take ours: {told}",
                remedy="Install rsync 3.1 or newer at both ends, and see what the account's key may do there.",
            )
        return PeerUnavailable(f"cannot bring it to {whom}: {told} (exit code {self.code})")

    @property
    def told(self) -> str:
        """The lines that say the most, and no more than a person reads."""
        chosen = [line.text for line in self.lines if not line.text.startswith("rsync error:")] or ["nothing was said"]
        return "; ".join(chosen[-2:])[:_LONGEST]


_AT_THE_RECEIVER: Final[Sequence[tuple[frozenset[int], type[LibrarianError], str]]] = (
    (_FULL, NoRoom, "Free space there; it goes on by itself."),
    (_DENIED, Forbidden, "Let the account that ssh reaches there write into the staging, in every folder of it."),
    (_PASSING, PeerUnavailable, "Repair the mount there; it goes on by itself."),
)
_FROM_SSH: Final[Sequence[tuple[tuple[str, ...], type[LibrarianError], str]]] = (
    (
        ("host key verification failed", "host identification has changed", "host key is known"),
        Unauthenticated,
        "Compare the host key with what the peer's operators say it is, and put it into known_hosts_file.",
    ),
    (
        ("permission denied", "too many authentication failures", "no supported authentication methods"),
        Unauthenticated,
        "Have the peer's operators let our public key in, for the account of the entry point.",
    ),
    (
        ("cannot run ", "command not found", "rsync: not found"),
        ConfigurationError,
        "Install rsync and ssh at both ends.",
    ),
)


def lines_of(said: bytes) -> Iterator[Line]:
    """The lines of *said*, with nothing in them that a terminal or a log would take for more than text."""
    for raw in said.decode(errors="replace").splitlines():
        text = "".join(c if c.isprintable() else " " for c in raw).strip()
        if text:
            yield Line(text=text)
