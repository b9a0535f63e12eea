"""The drive of the demonstration: a disk image that is mounted here and there, or a folder that is moved."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL
from typing import TYPE_CHECKING, Final

from librarian.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

#: A file system needs room for itself, and a journal.
_LEAST: Final = 64_000_000
_SHARE: Final = 1.15
#: How often it is tried to unplug it, and seconds between two tries.
_TRIES: Final = 40
_PAUSE: Final = 0.25
_PROGRAMS: Final = ("mkfs.ext4", "mount", "umount")


class Disk:
    """A disk that is plugged in at one place at a time, and kept in *folder* otherwise."""

    def __init__(self, folder: Path, *, holds: int) -> None:
        self._image = folder / "image"
        self._folder = folder / "folder"
        self._size = int(max(holds * _SHARE, holds + _LEAST))
        self.is_folder = os.geteuid() != 0 or any(shutil.which(program) is None for program in _PROGRAMS)
        self.at: Path | None = None

    async def make(self) -> None:
        """Make its file system; where none can be mounted, it is a folder."""
        self._image.parent.mkdir()
        if not self.is_folder:
            with self._image.open("wb") as file:
                file.truncate(self._size)
            probe = self._image.with_name("probe")
            is_made = await _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
            self.is_folder = not (is_made and await self._mount(probe) and await _run("umount", str(probe)))
        if self.is_folder:
            self._folder.mkdir()

    async def plug(self, at: Path) -> None:
        """Be found at *at*.

        Raises
        ------
        Unavailable
            It cannot be mounted there.
        """
        if self.is_folder:
            at.parent.mkdir(parents=True, exist_ok=True)
            self._folder.rename(at)
        elif not await self._mount(at):
            raise Unavailable(f"the drive cannot be mounted at {at}")
        self.at = at

    async def unplug(self) -> None:
        """Be found nowhere.

        Raises
        ------
        Unavailable
            Somebody has something open on it.
        """
        assert self.at is not None  # noqa: S101 - it was plugged in
        if self.is_folder:
            self.at.rename(self._folder)
        else:
            for _ in range(_TRIES):
                # A server that looks at it just now has something open for a moment.
                if await _run("umount", str(self.at)):
                    break
                await asyncio.sleep(_PAUSE)
            else:
                raise Unavailable(f"the drive at {self.at} cannot be unplugged: it is in use")
        self.at = None

    async def give_up(self) -> None:
        """Be found nowhere, whoever uses it: the temporary folder is to be removed. A repeat does nothing."""
        if self.at is not None and not self.is_folder:
            await _run("umount", "--lazy", str(self.at))
        self.at = None

    async def _mount(self, at: Path) -> bool:
        at.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs here
        return await _run("mount", "-o", "loop", str(self._image), str(at))


async def _run(*command: str) -> bool:
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    return await asyncio.shield(process.wait()) == 0
