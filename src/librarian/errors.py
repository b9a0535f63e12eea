"""Every refusal that librarian makes, as a tree.

::

    LibrarianError
    ├── CallerError          the request cannot be granted as it stands   (exit code 2)
    ├── Unavailable          the request is fine, try again later         (exit code 3)
    ├── IntegrityError       bytes are not what somebody promised         (exit code 4)
    └── Bug                  librarian itself is wrong                    (exit code 70)

Each leaf has a stable ``code`` (what programs match on), an HTTP ``status``, a message with the values
at hand, and a ``remedy``: what a person can do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class LibrarianError(Exception):
    """Something librarian refuses or cannot do, with a remedy.

    Parameters
    ----------
    message: what happened, with the values.
    remedy: what a person can do next; empty when there is nothing to add.
    details: JSON-ready values for programs.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: int = 70

    def __init__(self, message: str, *, remedy: str = "", details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details: dict[str, object] = dict(details or {})


class CallerError(LibrarianError):
    """The request cannot be granted as it stands."""

    code = "bad_request"
    status = 400
    exit_code = 2


class BadRequest(CallerError):
    """The request is malformed: JSON, types or values."""


class BadName(CallerError):
    """A name, member path or token breaks the rules for names."""

    code = "bad_name"


class BadChecksum(CallerError):
    """A checksum is not written as ``<algorithm>:<hex>`` or ``book1-<algorithm>:<hex>``."""

    code = "bad_checksum"


class UnsupportedMember(CallerError):
    """A payload holds something other than directories and regular files, or a name that is refused."""

    code = "unsupported_member"
    status = 422


class Unauthenticated(CallerError):
    """No credentials, or wrong ones."""

    code = "unauthenticated"
    status = 401


class Forbidden(CallerError):
    """The account lacks the role."""

    code = "forbidden"
    status = 403


class NotFound(CallerError):
    """Nothing of that name or id exists here."""

    code = "not_found"
    status = 404


class MethodNotAllowed(CallerError):
    """The path exists, but not for this method."""

    code = "method_not_allowed"
    status = 405


class ProtocolMismatch(CallerError):
    """The other side speaks another version of the protocol."""

    code = "protocol_mismatch"


class Conflict(CallerError):
    """The request contradicts what is already so."""

    code = "conflict"
    status = 409


class NameHeld(Conflict):
    """A file of that name is held; ``details`` carries its size and checksum."""

    code = "name_held"


class NameBusy(Conflict):
    """Another arrival of that name is under way."""

    code = "name_busy"


class NameNested(Conflict):
    """The name lies inside, or encloses, a name that is held or arriving."""

    code = "name_nested"


class WrongState(Conflict):
    """The transfer (or upload) is in a state that does not allow this."""

    code = "wrong_state"


class TooLarge(CallerError):
    """The body is larger than its limit."""

    code = "too_large"
    status = 413


class RangeUnsatisfiable(CallerError):
    """The offset or range does not fit the bytes that are there."""

    code = "range_unsatisfiable"
    status = 416


class ConfigurationError(CallerError):
    """The settings cannot work; ``details.problems`` lists every problem at once."""

    code = "configuration"


class Unavailable(LibrarianError):
    """The request is fine, but cannot be served now."""

    code = "unavailable"
    status = 503
    exit_code = 3


class Throttled(Unavailable):
    """Too many failed attempts; ``details.retry_after`` is in seconds."""

    code = "throttled"
    status = 429


class NoRoom(Unavailable):
    """No open store has the room."""

    code = "no_room"
    status = 507


class StoreUnavailable(Unavailable):
    """A store is unmounted, hung, read-only, or not the one the catalog knows."""

    code = "store_unavailable"


class DatabaseUnavailable(Unavailable):
    """The catalog's database does not answer."""

    code = "database_unavailable"


class Draining(Unavailable):
    """The server is going down and takes no new work."""

    code = "draining"


class PeerUnavailable(Unavailable):
    """Another librarian does not answer, or not sensibly."""

    code = "peer_unavailable"


class EngineFull(Unavailable):
    """A transfer engine has no place for another transfer now."""

    code = "engine_full"


class OwnedElsewhere(Unavailable):
    """Another process owns this catalog."""

    code = "owned_elsewhere"


class RestoredCatalog(Unavailable):
    """The catalog is older than its stores: it was restored from a backup and nobody acknowledged that."""

    code = "restored_catalog"


class IntegrityError(LibrarianError):
    """Bytes are not what somebody promised."""

    code = "integrity"
    status = 422
    exit_code = 4


class ChecksumMismatch(IntegrityError):
    """Measured and promised checksum differ."""

    code = "checksum_mismatch"


class SizeMismatch(IntegrityError):
    """Measured and promised size differ."""

    code = "size_mismatch"


class SourceChanged(IntegrityError):
    """A source changed while it was being read."""

    code = "source_changed"


class SourceBad(IntegrityError):
    """A copy of ours that was to be copied is missing, cannot be read, or is not what it should be."""

    code = "source_bad"


class CatalogDamaged(IntegrityError):
    """The catalog's database finds that its own pages are not what it wrote."""

    code = "catalog_damaged"
    status = 500


class ManifestDamaged(IntegrityError):
    """The manifest of a drive is truncated, altered or forged."""

    code = "manifest_damaged"


class NameTakenOnDisk(IntegrityError):
    """Other bytes stand under the name in the store's root, without a row in the catalog."""

    code = "name_taken_on_disk"


class Bug(LibrarianError):
    """Librarian itself is wrong; the request id finds the traceback in the log."""

    code = "bug"
