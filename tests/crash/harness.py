"""Sites as processes on a disk of their own: killed, or with their power cut, at a named step."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from librarian.checksum import Checksum, measure_blocking
from librarian.client import LibrarianClient
from librarian.client.address import Address
from librarian.client.socket_path import short_path
from tests.starting import Started

TOP = Path(__file__).parents[2]
PASSWORD = "correct horse battery"
#: When a test stops hoping; nothing waits for this to pass.
PATIENCE = 90.0
#: Of whatever was staged, until its row says that it is held.
INGEST_STEPS = (
    "claimed",
    "half hashed",
    "first barrier",
    "k of n renames",
    "second barrier",
    "recorded but not answered",
)
DISK_BYTES = 192 * 1024**2


#: Below those that the kernel gives to connections: a port stays free until its server is started, again and again.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Disk:
    """A folder on an ext4 image of its own, written past the host's cache, that can lose its power."""

    image: Path
    mounted: Path

    @classmethod
    def make(cls, image: Path, mounted: Path, *, size: int = DISK_BYTES) -> "Disk":
        if os.geteuid() != 0:
            pytest.skip("needs: root, to mount")
        if shutil.which("mkfs.ext4") is None or shutil.which("losetup") is None:
            pytest.skip("needs: mkfs.ext4 and losetup")
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        disk = cls(image, mounted)
        disk.mount()
        return disk

    def mount(self) -> None:
        self.mounted.mkdir(exist_ok=True)
        command = ["losetup", "--direct-io=on", "--find", "--show", self.image]
        loop = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        try:
            subprocess.run(["mount", loop, self.mounted], check=True)
        finally:
            # Detached as soon as it is unmounted.
            subprocess.run(["losetup", "--detach", loop], check=True)

    def copy_as_it_is(self) -> Path:
        """What would be on the platter if the power failed now."""
        return self.copy_to(self.image.with_suffix(".after"))

    def copy_to(self, path: Path) -> Path:
        subprocess.run(["cp", "--sparse=always", self.image, path], check=True)
        return path

    def replace(self, image: Path) -> None:
        """Go on from *image*."""
        self.unmount()
        image.replace(self.image)
        self.mount()

    def unmount(self) -> None:
        # Lazily: servers of other tests look for their drives at every mount, each for an instant.
        subprocess.run(["umount", "--lazy", self.mounted], check=True)


@dataclass
class CrashSite:
    """A site's folder and, while it runs, its server process."""

    name: str
    folder: Path
    port: int
    logs: Path
    rules: str = ""
    disk: Disk | None = None
    process: subprocess.Popen | None = None
    _starts: int = field(default=0)

    @property
    def config(self) -> Path:
        return self.folder / "site.toml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, account: str = "demo") -> LibrarianClient:
        return LibrarianClient(
            self.url, user=account, password=PASSWORD, patience=timedelta(seconds=PATIENCE), shared=False
        )

    def operator(self) -> LibrarianClient:
        """A client that may do everything, at that machine."""
        address = Address(url="http://localhost", socket=self.folder / "state" / "admin.sock")
        return LibrarianClient(address, patience=timedelta(seconds=PATIENCE))

    def configure(self) -> None:
        self.config.write_text(
            f'name = "{self.name}"\nlisten = "127.0.0.1:{self.port}"\nstate = "{self.folder}/state"\n'
            f'[[stores]]\nname = "main"\nroot = "{self.folder}/store"\nstaging = "{self.folder}/staging"\n'
            f"[limits]\nworkers = 1\n[clones]\ninterval = 0.5\nreconcile_after = 2\n{self.rules}"
        )

    def admin(self, *arguments: str) -> None:
        command = ["librarian.admin", "--config", self.config, *arguments, "--password-file", "-"]
        pipe = subprocess.PIPE
        with Started(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            _, err = process.communicate(PASSWORD)
        assert process.returncode == 0, err

    async def call(self, method: str, path: str, body: dict | None = None) -> dict:
        """What an administrator at that machine would do; the answer."""
        status, raw = await self.ask(method, path, body)
        assert status in (200, 201), raw
        return json.loads(raw)

    async def ask(self, method: str, path: str, body: dict | None = None) -> tuple[int, bytes]:
        """What an administrator at that machine would ask; the status and the answer, 0 where the server is lost."""
        connector = aiohttp.UnixConnector(path=short_path(self.folder / "state" / "admin.sock"))
        try:
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.request(method, f"http://admin{path}", json=body) as answer,
            ):
                return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            return 0, repr(error).encode()

    async def knows(self, other: "CrashSite", *, url: str = "") -> None:
        """*other* becomes a peer, called at *url* where that is not its own."""
        body = {"url": url or other.url, "username": self.name, "password": PASSWORD, "accepts": [""]}
        await self.call("PUT", f"/api/v1/peers/{other.name}", body)

    def start(self, *, stop_at: str = "") -> Path:
        """Start the server; returns the pipe through which it tells that it stopped."""
        self._starts += 1
        fifo = self.logs / f"{self.name}-{self._starts}.fifo"
        os.mkfifo(fifo)
        log = (self.logs / f"{self.name}-{self._starts}.log").open("wb")
        with log:
            self.process = Started(
                ["tests.crash.server", stop_at, fifo, "serve", "--config", self.config],
                cwd=TOP,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        return fifo

    async def stopped(self, fifo: Path, *, unless: asyncio.Task | None = None) -> str:
        """The step at which the server stopped; nothing of it moves any more when this returns."""
        step = await reached(fifo, unless=unless)
        assert self.process is not None
        which = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        end = await asyncio.to_thread(os.waitid, os.P_PID, self.process.pid, which)
        assert end is not None, "the server is gone"
        assert end.si_code == os.CLD_STOPPED, end
        return step

    async def ready(self) -> None:
        async with self.client() as client:
            await client.ping()

    def kill(self) -> None:
        """kill -9, and see it gone: the lock and the port are free after this."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def cut_power(self, *drives: Disk) -> None:
        """Go on from what was on the disk, and on *drives*, at this instant; the process is stopped meanwhile."""
        assert self.disk is not None
        after = {disk.mounted: (disk, disk.copy_as_it_is()) for disk in (self.disk, *drives)}
        self.kill()
        for disk, image in after.values():
            disk.replace(image)

    def staging_entries(self) -> list[str]:
        return [entry.name for entry in (self.folder / "staging").iterdir() if not entry.name.startswith(".")]

    def published(self) -> list[str]:
        root = self.folder / "store"
        return sorted(
            str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")
        )


async def reached(fifo: Path, *, unless: asyncio.Task | None = None) -> str:
    """The step at which the server is about to stop."""
    reading = asyncio.create_task(asyncio.to_thread(fifo.read_text))
    waiting = {reading} if unless is None else {reading, unless}
    done, _ = await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    if reading in done:
        return reading.result()
    # Let the thread that reads go before the test fails.
    os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))
    raise AssertionError(f"the step was never reached: {unless and unless.done() and unless.exception()}")


async def until(question, *, patience: float = PATIENCE):
    """Ask again and again until the answer is true; the answer."""
    async with asyncio.timeout(patience):
        while not (answer := await question()):
            await asyncio.sleep(0.1)
    return answer


async def assert_sound(site: CrashSite, name: str, source: Path, *, store_files: list[str]) -> None:
    """The file is there once, whole, described truly, and nothing is left over."""
    async with site.client() as client:
        described = await client.describe(name)
        (instance,) = described.instances
        measured = await asyncio.to_thread(
            measure_blocking, Path(instance.path), Checksum(described.checksum).algorithm
        )
        expected = await asyncio.to_thread(measure_blocking, source, Checksum(described.checksum).algorithm)
        assert measured.checksum == expected.checksum == described.checksum
        assert measured.size == described.size
        assert site.published() == store_files

        async def is_clean() -> bool:
            return not site.staging_entries()

        await until(is_clean)


@contextlib.contextmanager
def all_gone(*sites: CrashSite):
    """Kill what still runs and unmount what is still mounted, whatever happened."""
    try:
        yield
    finally:
        for site in sites:
            site.kill()
            if site.disk is not None:
                subprocess.run(["umount", "--lazy", site.disk.mounted], check=False)


@contextlib.contextmanager
def drives_gone(*drives: Disk):
    """Unmount *drives*, whatever happened."""
    try:
        yield
    finally:
        for drive in drives:
            subprocess.run(["umount", "--lazy", drive.mounted], check=False)
