"""One run of rsync over ssh: how it is called, watched, and ended with everything that it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from librarian.transfers.rsync_troubles import Ending, Line, lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from librarian.names import SshAddress, SshPath
    from librarian.transfers.rsync_links import Links

#: Seconds in which neither end hears anything of the other; longer means that it is gone.
SILENCE: Final = 300
#: Lines of trouble that are kept: of a book, each member may have one.
MOST_LINES: Final = 10_000
#: Bytes of one line, and of what is read at once.
LONGEST_LINE: Final = 64 * 1024
#: How long a run that was killed is waited for, in seconds: one that hangs in a dead mount does not go.
GOES_WITHIN: Final = 5.0
LEASH: Final = Path(__file__).with_name("leash.py")
#: What ``--info=progress2`` says of the bytes so far.
_PROGRESS: Final = re.compile(rb"\r\s*([\d,.]+)\s+\d+%")


@dataclass(frozen=True, kw_only=True)
class Ssh:
    """As whom we come, and whom we trust."""

    key_file: Path
    known_hosts_file: Path | None = None

    def command(self, address: SshAddress) -> str:
        """What rsync runs; it divides it at spaces, and no part holds any: settings and addresses are checked."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            # A shared connection would outlive us.
            "ControlMaster": "no",
            "ControlPath": "none",
            "LogLevel": "ERROR",
            "ConnectTimeout": "20",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
        }
        if self.known_hosts_file is not None:
            options["UserKnownHostsFile"] = str(self.known_hosts_file)
        given = [f"-o{name}={value}" for name, value in options.items()]
        return " ".join(["ssh", "-T", "-p", str(address.port), "-i", str(self.key_file), *given])


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is to be sent, and where to."""

    ssh: Ssh
    address: SshAddress
    staging: SshPath
    links: Links

    async def look(self) -> tuple[Ending, str]:
        """Ask which of the folders are there, without making any; what rsync says of those that are."""
        said: list[bytes] = []
        # Nothing else finds out in one trip: sending would make folders, even below a mount point with no mount.
        options = ["--dry-run", "--dirs", "--existing", "-ii", "--out-format=%i %n"]
        ending = await _run(self._command(options, self.links.tokens), on_output=said.append)
        return ending, b"".join(said).decode(errors="replace")

    async def send(self, tell: Callable[[int], None], *, rate_limit: int | None) -> Ending:
        """Send what is missing, at most *rate_limit* bytes a second; *tell* hears how many were looked at so far."""
        # See docs/decisions/0018-rsync-appends.md.
        options = ["--recursive", "--copy-links", "--size-only", "--append", "--info=progress2", "--outbuf=N"]
        # Ours are read-only. What was cut off is private to its account, and stays so unless modes are sent; the
        # folders of the tokens are the receiver's own, and theirs are not.
        options += ["--perms", "--chmod=D2775,F664", "--no-implied-dirs"]
        if rate_limit is not None:
            options.append(f"--bwlimit={max(rate_limit // 1024, 1)}")

        def hear(said: bytes) -> None:
            found = _PROGRESS.findall(said)
            if found:
                tell(int(re.sub(rb"\D", b"", found[-1])))

        return await _run(self._command(options, self.links.payloads), on_output=hear)

    def _command(self, options: Sequence[str], listed: Path) -> list[str]:
        rsh = self.ssh.command(self.address)
        common = [f"--timeout={SILENCE}", "--from0", f"--files-from={listed}", f"--rsh={rsh}"]
        return ["rsync", *options, *common, "--", f"{self.links.top}/", f"{self.address.target}:{self.staging}"]


async def _run(command: Sequence[str], *, on_output: Callable[[bytes], None]) -> Ending:
    """Run *command* to its end; when we are cancelled, so is it, with whatever it started."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(LEASH), *command),
        # Nothing is ever written: that it is open says that we are there.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # English, since it is read; and nothing that would change what rsync or ssh do.
        env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath), "HOME": str(Path.home())},
        start_new_session=True,
    )
    if process.stdout is None or process.stderr is None:
        raise RuntimeError("a pipe was asked for, and there is none")
    lines: list[Line] = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_listen(process.stdout, on_output), name="rsync: output")
            group.create_task(_collect(process.stderr, lines), name="rsync: trouble")
        return Ending(code=await process.wait(), lines=tuple(lines))
    finally:
        await _end(process)


async def _listen(stream: asyncio.StreamReader, on_output: Callable[[bytes], None]) -> None:
    while said := await stream.read(LONGEST_LINE):
        on_output(said)


async def _collect(stream: asyncio.StreamReader, lines: list[Line]) -> None:
    rest = b""
    while said := await stream.read(LONGEST_LINE):
        whole, newline, rest = (rest + said).rpartition(b"\n")
        if not newline and len(rest) > LONGEST_LINE:
            whole, rest = rest, b""
        lines += lines_of(whole)
        del lines[MOST_LINES:]
    lines += lines_of(rest)


async def _end(process: asyncio.subprocess.Process) -> None:
    """See that nothing of *process* is left; what hangs in the kernel is left behind."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOES_WITHIN):
                await process.wait()
