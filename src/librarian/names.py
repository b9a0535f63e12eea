"""Value types for everything that names something; each refuses what could escape its root.

All are ``str`` subclasses, made only by parsing: a value of the type is a proof that the rules hold.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from typing import ClassVar, Final, NewType, Self

from librarian.errors import BadName

FileId = NewType("FileId", int)
StoreId = NewType("StoreId", int)
PeerId = NewType("PeerId", int)
AccountId = NewType("AccountId", int)
RuleId = NewType("RuleId", int)
BatchId = NewType("BatchId", int)
TransferId = NewType("TransferId", int)
ManifestId = NewType("ManifestId", int)
ReceptionId = NewType("ReceptionId", int)

#: Longest file name in bytes; an index row of PostgreSQL holds 2,704.
NAME_BYTES: Final = 1024
#: Longest member path in bytes; with a root it must stay below PATH_MAX (4,096).
MEMBER_BYTES: Final = 2048
#: Longest part of a path in bytes: NAME_MAX of ext4, XFS, Lustre and GPFS.
PART_BYTES: Final = 255
#: Top-level entries with this prefix belong to the store itself.
RESERVED_PREFIX: Final = ".librarian"
#: Stands at the top of an ext4 file system, and belongs to fsck.
LOST_AND_FOUND: Final = "lost+found"

_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_STORE_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TOKEN = re.compile(r"[0-9a-f]{32}")
#: Nothing that a shell, ssh or rsync would take for more than a name.
_SSH_ADDRESS = re.compile(
    r"(?P<target>[A-Za-z0-9_][A-Za-z0-9._-]{0,63}@(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]))"
    r":(?P<port>[1-9][0-9]{0,4})"
)
_SSH_PATH = re.compile(r"/|(?:/[A-Za-z0-9._+=,@-]+)+/?")


def _has_control(text: str) -> bool:
    # isprintable() is a fast way to say "certainly none"; it also rejects spaces such as U+00A0.
    return not text.isprintable() and any(unicodedata.category(c) == "Cc" for c in text)


def _check_path(text: object, *, what: str, limit: int) -> None:
    if not isinstance(text, str) or not text:
        raise BadName(f"the {what} is empty", remedy="Give a relative path such as '2026/11/book-001'.")
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadName(f"the {what} {text!r} is not valid UTF-8", remedy="Rename it; names are UTF-8.") from error
    if len(raw) > limit:
        raise BadName(f"the {what} has {len(raw):,} bytes, more than {limit:,}", remedy="Use a shorter name.")
    if _has_control(text):
        raise BadName(f"the {what} {text!r} has a control character", remedy="Rename it without control characters.")
    for part in text.split("/"):
        if part in ("", ".", ".."):
            raise BadName(
                f"the {what} {text!r} has the part {part!r}",
                remedy="Give a relative path without '.', '..', empty parts, or a slash at either end.",
            )
        if len(part.encode()) > PART_BYTES:
            raise BadName(f"a part of the {what} {text[:80]!r} is longer than {PART_BYTES} bytes", remedy="Shorten it.")


class FileName(str):
    """The name of a file: a relative path of 1 to 1,024 bytes of UTF-8, unique at a site."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Parse *text*.

        Raises
        ------
        BadName
            *text* is empty, absolute, too long, not UTF-8, has control characters, an empty, ``.`` or ``..``
            part, starts with ``.librarian``, or is or lies in ``lost+found``.
        """
        if isinstance(text, cls):
            return text
        _check_path(text, what="name", limit=NAME_BYTES)
        if text.startswith(RESERVED_PREFIX) or text.partition("/")[0] == LOST_AND_FOUND:
            raise BadName(
                f"the name {text!r} is reserved",
                remedy=f"Names may not start with '{RESERVED_PREFIX}' nor be or lie in '{LOST_AND_FOUND}'.",
            )
        return super().__new__(cls, text)

    @classmethod
    def trusted(cls, text: str) -> Self:
        """Take a name that was parsed before (read from the catalog) without looking again."""
        return str.__new__(cls, text)

    @property
    def ancestors(self) -> tuple[str, ...]:
        """Every proper prefix that ends before a slash, shortest first: ``a/b/c`` → ``a``, ``a/b``."""
        parts = self.split("/")
        return tuple("/".join(parts[:depth]) for depth in range(1, len(parts)))


class MemberPath(str):
    """A path inside a book: relative, 1 to 2,048 bytes of UTF-8."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Parse *text*; raises BadName on the same grounds as FileName, the reserved prefix aside."""
        if isinstance(text, cls):
            return text
        _check_path(text, what="member path", limit=MEMBER_BYTES)
        return super().__new__(cls, text)


class Token(str):
    """The name of a staging directory: 32 lowercase hexadecimal digits, not guessable."""

    __slots__ = ()

    def __new__(cls, text: object) -> Self:
        """Parse *text*; raises BadName."""
        if not isinstance(text, str) or not _TOKEN.fullmatch(text):
            raise BadName("a token is 32 lowercase hexadecimal digits", remedy="Use the token as it was given.")
        return super().__new__(cls, text)

    @classmethod
    def trusted(cls, text: str) -> Self:
        """Take a token that was parsed before (read from the catalog) without looking again."""
        return str.__new__(cls, text)

    @classmethod
    def mint(cls) -> Self:
        """A new random token."""
        return str.__new__(cls, secrets.token_hex(16))


class _Label(str):
    """A short name for something configured: ``[a-z0-9][a-z0-9._-]*``, at most 63 characters."""

    __slots__ = ()
    _whose: ClassVar[str]
    _form: ClassVar[re.Pattern[str]] = _LABEL
    _letters: ClassVar[str] = "lowercase letters"

    def __new__(cls, text: object) -> Self:
        if not isinstance(text, str) or not cls._form.fullmatch(text):
            raise BadName(
                f"{str(text)[:80]!r} cannot be {cls._whose} name",
                remedy=f"Use 1 to 63 {cls._letters}, digits, '.', '_' or '-', starting with a letter or digit.",
            )
        return super().__new__(cls, text)

    @classmethod
    def trusted(cls, text: str) -> Self:
        """Take a name that was parsed before (read from the catalog) without looking again."""
        return str.__new__(cls, text)


class SiteName(_Label):
    """The name of a site; a peer is known by its site's name, and its account has the same name."""

    __slots__ = ()
    _whose = "a site's"


class StoreName(_Label):
    """The name of a store within its site. Drives have labels such as ``A07``: capitals are letters too."""

    __slots__ = ()
    _whose = "a store's"
    _form = _STORE_LABEL
    _letters = "letters"


class AccountName(_Label):
    """The name of an account."""

    __slots__ = ()
    _whose = "an account's"


class RuleName(_Label):
    """The name of a replication rule."""

    __slots__ = ()
    _whose = "a rule's"


class SshAddress(str):
    """Where ssh finds an account: ``user@host:port``, and nothing that could be taken for an option or a command."""

    __slots__ = ()

    def __new__(cls, text: object) -> Self:
        """Parse *text*; raises BadName."""
        found = _SSH_ADDRESS.fullmatch(text) if isinstance(text, str) else None
        if found is None or int(found["port"]) > 65535:
            raise BadName(
                f"{str(text)[:80]!r} is not the address of an account at a host",
                remedy="Give 'user@host' with letters, digits, '.', '_' and '-' alone, and a port up to 65535.",
            )
        return str.__new__(cls, text)

    @property
    def target(self) -> str:
        """``user@host``."""
        return self.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port."""
        return int(self.rpartition(":")[2])


class SshPath(str):
    """A folder at the other end of ssh: absolute, of letters, digits and ``._+=,@-`` alone, without ``..``."""

    __slots__ = ()

    def __new__(cls, text: object) -> Self:
        """Parse *text*; raises BadName."""
        is_path = isinstance(text, str) and len(text) <= NAME_BYTES and _SSH_PATH.fullmatch(text) is not None
        if not is_path or ".." in str(text).split("/"):
            raise BadName(
                f"{str(text)[:80]!r} is not a path that can be handed to ssh",
                remedy="Give an absolute path of letters, digits, '.', '_', '+', '=', ',', '@' and '-', without '..'.",
            )
        return str.__new__(cls, text)
