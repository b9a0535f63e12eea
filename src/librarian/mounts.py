"""Mounts: which file systems are mounted here, and what the system tells of the devices below them."""

from __future__ import annotations

import os
import re
import select
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_UDEV: Final = Path("/run/udev/data")
_SYS: Final = Path("/sys/dev/block")
#: How a path is written in mountinfo: spaces and their like in octal.
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
#: A file system on a block device that a process serves.
_FUSE_BLOCK: Final = "fuseblk"


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One line of ``/proc/self/mountinfo``."""

    #: ``<major>:<minor>``.
    device: str
    path: Path
    filesystem: str
    source: str

    @property
    def is_on_a_block_device(self) -> bool:
        """Whether it may be a drive: looking at it asks no other machine."""
        return self.source.startswith("/dev/") or self.filesystem == _FUSE_BLOCK

    @property
    def has_device(self) -> bool:
        """Whether the device is there: one that was pulled out while it was mounted is gone, and its mount is not."""
        return os.path.exists(self.source)  # noqa: PTH110 - a Path for each mount, every few seconds


class Watch:
    """Tells whether anything was mounted or unmounted, without touching any mount."""

    def __init__(self) -> None:
        fd = os.open(_MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLPRI)

    def has_changed(self) -> bool:
        """Whether that was since it was last asked, or made."""
        # Source: proc_pid_mounts(5). The change is seen once by each open file.
        return bool(self._poll.poll(0))


def all_mounts() -> tuple[Mount, ...]:
    """Every mount in its order; where several have one path, the last is the one that is seen."""
    lines = _MOUNTINFO.read_bytes().split(b"\n")
    return tuple(found for line in lines if (found := _mount(line)) is not None)


def _mount(line: bytes) -> Mount | None:
    # Source: proc_pid_mountinfo(5). Optional fields end with a hyphen.
    before, _, after = line.partition(b" - ")
    fields, about = before.split(b" "), after.split(b" ")
    if len(fields) < 6 or len(about) < 2:
        return None
    return Mount(
        device=fields[2].decode(), path=Path(_plain(fields[4])), filesystem=about[0].decode(), source=_plain(about[1])
    )


def _plain(text: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), text))


def mount_at(path: Path) -> Mount | None:
    """What is mounted at *path* itself; None for a folder."""
    real = Path(os.path.realpath(path))
    return next((mount for mount in reversed(all_mounts()) if mount.path == real), None)


def mount_of(path: Path) -> Mount | None:
    """The mount in which *path* lies."""
    real = Path(os.path.realpath(path))
    above = {real, *real.parents}
    found = [mount for mount in all_mounts() if mount.path in above]
    # Of several at one path the last is the one that is seen.
    return max(reversed(found), key=lambda mount: len(mount.path.parts), default=None)


def serial_of(device: str) -> str | None:
    """The serial number of the disk that *device* (``<major>:<minor>``) lies on, where the system tells."""
    udev = _read(_UDEV / f"b{device}")
    for name in ("ID_SERIAL_SHORT", "ID_SERIAL"):
        for line in udev.splitlines():
            if line.startswith(f"E:{name}="):
                return line.partition("=")[2].strip() or None
    folder = Path(os.path.realpath(_SYS / device))
    # A partition's device is that of the disk above it.
    for place in (folder, folder.parent):
        for name in ("device/serial", "serial", "device/wwid"):
            if text := _read(place / name).strip():
                return text
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
