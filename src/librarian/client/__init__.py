"""How to call a librarian: ``LibrarianClient`` in asynchronous code, ``connect`` in a script."""

from librarian.checksum import Algorithm
from librarian.client.address import Address
from librarian.client.connection import segment
from librarian.client.front import Librarian, connect
from librarian.client.librarian import LibrarianClient
from librarian.client.outcomes import Downloaded, SomeFailed, Uploaded, Verified
from librarian.client.progress import OnProgress, Phase, Progress
from librarian.client.searching import Conditions
from librarian.wire.files import FileDescription, FilePage, FilesQuery, FileSummary, Member
from librarian.wire.site import SiteDescription

__all__ = [
    "Address",
    "Algorithm",
    "Conditions",
    "Downloaded",
    "FileDescription",
    "FilePage",
    "FileSummary",
    "FilesQuery",
    "Librarian",
    "LibrarianClient",
    "Member",
    "OnProgress",
    "Phase",
    "Progress",
    "SiteDescription",
    "SomeFailed",
    "Uploaded",
    "Verified",
    "connect",
    "segment",
]
