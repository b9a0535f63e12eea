"""What stands on a drive beside what belongs there: put there by other hands."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from librarian.stores import identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Belongings:
    """The names of the files and books that belong on a drive; there may be a million."""

    def __init__(self) -> None:
        self._names: set[int] = set()
        self._folders: set[str] = set()

    def add(self, name: str) -> None:
        """*name* belongs there. A repeat changes nothing."""
        self._names.add(hash(name))
        self._folders.update(map(str, PurePosixPath(name).parents))

    def beside(self, root: Path, folder: str = "") -> Iterator[str]:
        """What else stands at *root*, by name; what every drive has at its top is left out.

        A folder, with a slash at its end, stands for all that is in it. Nothing is looked at within a book.

        Raises
        ------
        OSError
        """
        with os.scandir(root / folder) as found:
            entries = sorted(found, key=lambda each: each.name)
        for each in entries:
            path = f"{folder}{each.name}"
            if hash(path) in self._names or not (folder or identity.is_stray(path)):
                continue
            is_folder = each.is_dir(follow_symlinks=False)
            if is_folder and path in self._folders:
                yield from self.beside(root, f"{path}/")
            else:
                yield os.fsencode(path).decode(errors="backslashreplace") + "/" * is_folder
