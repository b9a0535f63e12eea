"""Places: where a store keeps what, as paths relative to its root and its staging area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from librarian.names import Token

#: What stands under a token: the file itself, or the book's top directory.
PAYLOAD: Final = "payload"
#: Below staging: what only the server may enter, per token.
PRIVATE: Final = ".private"
#: Below staging: entries nobody asked for, until they are old enough to go.
QUARANTINE: Final = ".quarantine"
#: Names of what a probe makes and removes again.
PROBE_PREFIX: Final = ".librarian-probe"
#: The store's identity, in its root.
IDENTITY: Final = ".librarian-store"

#: What a sealed drive carries, in its root.
MANIFEST: Final = ".librarian-manifest"

#: Published files and books, and the directories above them.
FILE_MODE: Final = 0o444
BOOK_MODE: Final = 0o555
PARENT_MODE: Final = 0o755
#: Any of these bits lets somebody else write.
OTHERS_WRITE: Final = 0o022


def shared_probe(uuid: str) -> str:
    """The file in staging by which others find out that they share the file system of the store *uuid*."""
    return f"{PROBE_PREFIX}-{uuid}"


def staged(token: Token) -> str:
    """Where the payload of *token* is brought."""
    return f"{token}/{PAYLOAD}"


def private(token: Token) -> str:
    """Where the server keeps what it took of *token*; only complete and trusted bytes stand there."""
    return f"{PRIVATE}/{token}/{PAYLOAD}"


def arriving(token: Token) -> str:
    """Where a payload waits that was moved out of others' reach and must be looked at once more."""
    return f"{PRIVATE}/{token}/arriving"


def copying(token: Token) -> str:
    """Where a private copy grows."""
    return f"{PRIVATE}/{token}/copying"
