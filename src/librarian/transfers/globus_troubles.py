"""What the codes of Globus' events mean, and what is to be done about each.

Source of the codes: Globus' list of event codes and the page "Task Behavior" of its documentation. Their form may
change, so a code that is not listed here is passing trouble, and is told with its name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Trouble(StrEnum):
    """What kind of trouble a transfer is in."""

    #: Globus tries again by itself.
    PASSING = "passing"
    #: The destination takes no more bytes until somebody makes room.
    FULL = "full"
    #: Credentials or a policy; somebody must act, and the same task goes on.
    ACCESS = "access"
    #: One item cannot be moved, however often it is tried.
    ITEM = "item"
    #: A source does not read as it should: it is not what we hold it to be.
    INTEGRITY = "integrity"


_CODES: Final[dict[Trouble, str]] = {
    Trouble.PASSING: "CONNECT_FAILED CONNECTION_BROKEN CONNECTION_RESET TIMEOUT ENDPOINT_ERROR ENDPOINT_TOO_BUSY "
    "GC_NOT_CONNECTED GC_PAUSED VERIFY_CHECKSUM INTERNAL_ERROR UNKNOWN CLOCK ABEND MPU_NOT_FOUND EXPIRED CANCELED",
    Trouble.FULL: "QUOTA_EXCEEDED NO_SPACE_LEFT",
    Trouble.ACCESS: "AUTH NO_CREDENTIALS INVALID_SERVICE_CREDENTIAL GSI_DN_MISMATCH PAUSED NO_PHYSICALS",
    Trouble.ITEM: "FILE_NOT_FOUND FILE_ACCESS PERMISSION_DENIED INVALID_PATH_NAME AMBIGUOUS_PATH IS_A_DIRECTORY "
    "IS_A_FILE NOT_A_DIRECTORY NOT_A_FILE NOT_A_SYMLINK INVALID_SYMLINK LIMIT_EXCEEDED NO_APPEND_FILESYSTEM",
    Trouble.INTEGRITY: "FILE_SIZE_CHANGED EXTERNAL_CHECKSUM_MISMATCH",
}
TROUBLES: Final[dict[str, Trouble]] = {code: trouble for trouble, codes in _CODES.items() for code in codes.split()}

#: What Globus leaves out where it meets it at a source, instead of trying again; it lists them at the end.
LEFT_OUT: Final = frozenset({"FILE_NOT_FOUND", "PERMISSION_DENIED", "AMBIGUOUS_PATH"})

REMEDIES: Final[dict[Trouble, str]] = {
    Trouble.PASSING: "",
    Trouble.FULL: "Make room at the destination, or raise its quota; the transfer goes on by itself.",
    Trouble.ACCESS: "Renew the credentials of the collection, or let its user write into the receiver's staging; "
    "it goes on by itself.",
    Trouble.ITEM: "",
    Trouble.INTEGRITY: "Verify the copy at the sender.",
}


def trouble_of(code: str) -> Trouble:
    """What an event's *code* means; one that is not known is passing trouble."""
    return TROUBLES.get(code, Trouble.PASSING)
