"""Real drives: loop-mounted images that are plugged in, pulled out, copied and worn, and always taken away again."""

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from librarian.drives import Wanted, initiate
from librarian.names import StoreName
from librarian.site import Site

#: Large enough for a journal, small enough to be filled within a second.
DISK_BYTES = 64 * 1024 * 1024


def _run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr.strip()}"
    return done.stdout.strip()


class Disk:
    """One disk with an ext4 file system, plugged in or not; reads come from its image, not from that one's cache."""

    def __init__(self, image: Path, size: int) -> None:
        self.image = image
        self._size = size
        self._device: str | None = None
        self.at: Path | None = None

    def format(self) -> None:
        with self.image.open("wb") as file:
            file.truncate(self._size)
        _run("mkfs.ext4", "-q", "-m", "0", self.image)

    def plug(self, at: Path, *, read_only: bool = False) -> Path:
        """Mount it at *at*; gives *at*."""
        assert self.at is None, f"{self.image} is plugged in at {self.at}"
        at.mkdir(parents=True, exist_ok=True)
        self._device = _run("losetup", "--find", "--show", "--direct-io=on", self.image)
        _run("mount", *(["-o", "ro"] if read_only else []), self._device, at)
        self.at = at
        return at

    def unplug(self) -> None:
        """Pull it out, whoever uses it. A repeat does nothing."""
        if self.at is not None:
            _run("umount", "-l", self.at)
            self.at = None
        if self._device is not None:
            subprocess.run(["losetup", "-d", self._device], capture_output=True, check=False)
            self._device = None

    def remount(self, options: str) -> None:
        _run("mount", "-o", f"remount,{options}", self.at)


class Disks:
    """Disks that are gone after the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disks: list[Disk] = []

    def new(self, name: str, *, size: int = DISK_BYTES) -> Disk:
        """A freshly formatted disk, not plugged in."""
        disk = Disk(self._folder / f"{name}.img", size)
        self._disks.append(disk)
        disk.format()
        return disk

    def copy(self, disk: Disk, name: str) -> Disk:
        """Another disk that holds the same blocks, as a cloning station makes it."""
        assert disk.at is None, "pull it out first"
        other = Disk(self._folder / f"{name}.img", DISK_BYTES)
        self._disks.append(other)
        shutil.copyfile(disk.image, other.image)
        return other

    def clean_up(self) -> None:
        for disk in self._disks:
            disk.unplug()


@contextmanager
def device_in(folder: Path) -> Iterator[str]:
    """An empty disk as a device that anybody may format and mount below *folder*; gone afterwards, whoever uses it."""
    _require_mounts()
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    device = _run("losetup", "--find", "--show", "--direct-io=on", image)
    try:
        yield device
    finally:
        subprocess.run(["umount", "--lazy", "--all-targets", device], capture_output=True, check=False)
        subprocess.run(["losetup", "-d", device], capture_output=True, check=False)


def _require_mounts() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs: root, to mount")
    for program in ("losetup", "mkfs.ext4"):
        if shutil.which(program) is None:
            pytest.skip(f"needs: {program}")


@contextmanager
def disks_in(folder: Path) -> Iterator[Disks]:
    """Disks whose images lie in *folder*."""
    _require_mounts()
    made = Disks(folder)
    try:
        yield made
    finally:
        made.clean_up()


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    """Disks for one test."""
    with disks_in(tmp_path) as made:
        yield made


@pytest.fixture
def plugged(site: Site, disks: Disks, tmp_path: Path) -> Callable[..., Awaitable[Disk]]:
    """Makes drives, and gives their disks, plugged in."""

    async def plug(name: str, *, full_at: int = 1000) -> Disk:
        disk = disks.new(name)
        path = disk.plug(tmp_path / f"media-{name}")
        wanted = Wanted(name=StoreName(name), path=path, full_at=full_at, is_folder=False, who="ana")
        await initiate(site, wanted)
        return disk

    return plug
