"""Real file systems with real faults, mounted for one test and always taken away again."""

import ctypes.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FAULTY_MOUNT = Path(__file__).with_name("faulty_mount.py")
FAT_MOUNT = Path(__file__).with_name("fat_mount.py")


def _run(*command: str | Path, needs: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs: root, to mount")
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"needs: {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs: {needs} ({done.stderr.strip()})")


class Mounts:
    """Mounts that are gone after the test."""

    def __init__(self) -> None:
        self._mounted: list[Path] = []
        self._servers: list[subprocess.Popen[bytes]] = []

    def tmpfs(self, at: Path, options: str) -> Path:
        at.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", options, "librarian-test", at, needs="tmpfs")
        self._mounted.append(at)
        return at

    def bind(self, source: Path, at: Path) -> Path:
        source.mkdir(parents=True, exist_ok=True)
        at.mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", source, at, needs="bind mounts")
        self._mounted.append(at)
        return at

    def ext4(self, image: Path, at: Path) -> Path:
        at.mkdir(parents=True, exist_ok=True)
        with image.open("wb") as file:
            file.truncate(16 * 1024 * 1024)
        _run("mkfs.ext4", "-q", image, needs="mkfs.ext4")
        _run("mount", "-o", "loop", image, at, needs="loop devices")
        self._mounted.append(at)
        return at

    def xfs(self, image: Path, at: Path) -> Path:
        """A file system that can share blocks."""
        at.mkdir(parents=True, exist_ok=True)
        with image.open("wb") as file:
            # None is smaller.
            file.truncate(320 * 1024 * 1024)
        _run("mkfs.xfs", "-q", "-m", "reflink=1", image, needs="mkfs.xfs")
        _run("mount", "-o", "loop", image, at, needs="xfs")
        self._mounted.append(at)
        return at

    def make_read_only(self, at: Path) -> None:
        _run("mount", "-o", "remount,ro", at, needs="remounting")

    def make_writable(self, at: Path) -> None:
        _run("mount", "-o", "remount,rw", at, needs="remounting")

    def unmount(self, at: Path) -> None:
        subprocess.run(["umount", "-l", at], check=True)
        self._mounted.remove(at)

    def unmount_now(self, at: Path) -> None:
        """Fails when something still holds it."""
        subprocess.run(["umount", at], check=True)
        self._mounted.remove(at)

    def fuse(self, source: Path, at: Path) -> subprocess.Popen[bytes]:
        """A file system in a process: it passes *source* on, cannot do NOREPLACE, and fails by name on request."""
        return self._serve(FAULTY_MOUNT, source, at, library="fuse")

    def fat(self, source: Path, at: Path, *, mode: int = 0o755, largest: int = 2**32 - 1) -> Path:
        """What FAT makes of *source*: everything has *mode*, and no file more than *largest* bytes."""
        # The older library refuses to rename without replacing, which FAT can do.
        self._serve(FAT_MOUNT, source, at, f"{mode:o}", f"{largest}", library="fuse3")
        return at

    def _serve(self, program: Path, source: Path, at: Path, *options: str, library: str) -> subprocess.Popen[bytes]:
        if os.geteuid() != 0:
            pytest.skip("needs: root, to mount")
        if ctypes.util.find_library(library) is None or not Path("/dev/fuse").exists():
            pytest.skip(f"needs: lib{library} and /dev/fuse")
        source.mkdir(parents=True, exist_ok=True)
        at.mkdir(parents=True, exist_ok=True)
        server = subprocess.Popen(
            [sys.executable, program, source, at, *options],
            env=os.environ | {"FUSE_LIBRARY_NAME": library},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._servers.append(server)
        assert server.stdout is not None
        # It writes a line once the kernel has shaken hands, so nothing here waits by the clock.
        assert server.stdout.readline() == b"mounted\n"
        self._mounted.append(at)
        return server

    def clean_up(self) -> None:
        for server in self._servers:
            server.send_signal(signal.SIGCONT)
        for at in reversed(self._mounted):
            subprocess.run(["umount", "-l", at], check=False, capture_output=True)
        for server in self._servers:
            server.kill()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
