"""A real ssh server on loopback, with keys of its own, for one test."""

import asyncio
import contextlib
import getpass
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from librarian.names import SshAddress
from librarian.transfers.rsync_run import Ssh
from tests.crash.harness import free_port

CONFIG = """\
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 200
"""


@dataclass
class Sshd:
    """An ssh server, and who comes to it."""

    folder: Path
    port: int

    @property
    def address(self) -> SshAddress:
        return SshAddress(f"{getpass.getuser()}@127.0.0.1:{self.port}")

    @property
    def ssh(self) -> Ssh:
        """A caller that is let in, and trusts it."""
        return Ssh(key_file=self.folder / "key", known_hosts_file=self.folder / "known_hosts")

    def lets_in(self, options: str = "") -> None:
        """Let the caller in, with *options* before its key."""
        public = (self.folder / "key.pub").read_text()
        (self.folder / "authorized_keys").write_text(f"{options} {public}".lstrip())

    def lets_nobody_in(self) -> None:
        (self.folder / "authorized_keys").write_text("")

    def is_trusted(self, *, at: int | None = None) -> None:
        """Have the caller know our host key, at another port if a proxy is in between."""
        kind, key, *_ = (self.folder / "host_key.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{at or self.port} {kind} {key}\n")

    def is_not_trusted(self) -> None:
        """Have the caller know another host key of ours."""
        kind, key, *_ = (self.folder / "key.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")


@asynccontextmanager
async def sshd(folder: Path) -> AsyncIterator[Sshd]:
    """An ssh server that keeps its files in *folder*, which is made."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("rsync") is None:
        pytest.skip("needs: sshd and rsync")
    folder.mkdir()
    if os.geteuid() == 0:
        # Where its unprivileged part is locked up; started as a service, its package makes it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    server = Sshd(folder, free_port())
    server.lets_in()
    server.is_trusted()
    config = folder / "sshd_config"
    config.write_text(CONFIG.format(folder=folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", config, "-p", str(server.port)], stderr=log)
    try:
        await _listens(server, process)
        yield server
    finally:
        process.terminate()
        process.wait()


async def _listens(server: Sshd, process: subprocess.Popen) -> None:
    async with asyncio.timeout(10):
        while True:
            assert process.poll() is None, (server.folder / "log").read_text()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.01)
