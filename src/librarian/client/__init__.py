"""How to call a librarian: ``LibrarianClient`` in asynchronous code, ``connect`` in a script."""

from librarian.client.address import Address
from librarian.client.connection import segment
from librarian.client.librarian import LibrarianClient

__all__ = ["Address", "LibrarianClient", "segment"]
