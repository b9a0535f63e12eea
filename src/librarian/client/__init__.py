"""How to call a librarian: ``LibrarianClient`` in asynchronous code, ``connect`` in a script."""

from librarian.client.address import Address
from librarian.client.connection import segment
from librarian.client.front import Librarian, connect
from librarian.client.librarian import LibrarianClient
from librarian.client.outcomes import Downloaded, SomeFailed, Uploaded, Verified
from librarian.client.progress import OnProgress, Phase, Progress
from librarian.wire.files import FilesQuery

__all__ = [
    "Address",
    "Downloaded",
    "FilesQuery",
    "Librarian",
    "LibrarianClient",
    "OnProgress",
    "Phase",
    "Progress",
    "SomeFailed",
    "Uploaded",
    "Verified",
    "connect",
    "segment",
]
