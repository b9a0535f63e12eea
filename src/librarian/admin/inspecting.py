"""``drive verify``: a sealed drive against its manifest, on any machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from librarian import manifest
from librarian.cli.terminal import AsJson, Terminal, counted, instant_text, size_text
from librarian.client.progress import INTERVAL, Phase, Progress
from librarian.errors import IntegrityError, StoreUnavailable
from librarian.inspecting import Inspection

if TYPE_CHECKING:
    from librarian.client.progress import OnProgress
    from librarian.manifest import ManifestFile

_REMEDY: Final = "The destination takes what is good and tells the sender of the rest, which comes again."


class _Counter:
    """Counts what is read, and reports it now and then."""

    def __init__(self, found: ManifestFile, report: OnProgress) -> None:
        self._total = found.head
        self._report = report
        self._bytes = self._files = 0
        self._said_at = 0.0

    def add_bytes(self, count: int) -> None:
        self._bytes += count
        self._say()

    def add_file(self) -> None:
        self._files += 1
        self._say()

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._said_at < INTERVAL:
            return
        self._said_at = now
        self._report(
            Progress(
                phase=Phase.VERIFYING,
                done_bytes=self._bytes,
                total_bytes=self._total.bytes,
                done_files=self._files,
                total_files=self._total.files,
            )
        )


def verify(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where the drive is mounted, on this machine.")],
    other: Annotated[
        Path | None,
        typer.Option("--manifest", metavar="FILE", help="Use this manifest, not the one on the drive."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a sealed drive against its manifest, on any machine: no server, no network, no settings.

    Everything is read from the medium. Prints each file or member that is not as it should be, what stands beside
    them, and the fingerprint of the key that signed the manifest: compare it with the packing slip. Exits with 0 when
    all is well, 4 when something is bad, 2 where there is no manifest, 3 where the drive cannot be read. What stands
    beside them is not taken, and no fault.

    Example: python -m librarian.admin drive verify /media/a07
    """
    terminal = Terminal(is_json=as_json)
    bad = extra = 0
    try:
        found = manifest.open_manifest(other or path / manifest.NAME)
        with terminal.progress(f"verifying {found.head.drive}") as report:
            counter = _Counter(found, report)
            inspection = Inspection(path, found, on_bytes=counter.add_bytes, on_file=counter.add_file)
            for flaw in inspection.flaws():
                bad += 1
                where = flaw.name if flaw.member is None else f"{flaw.name}: {flaw.member}"
                about = {"name": flaw.name, "member": flaw.member, "reason": flaw.reason}
                terminal.one(about, text=f"BAD  {where}: {flaw.reason}")
        for path_of_extra in inspection.extras():
            extra += 1
            terminal.one({"extra": path_of_extra}, text=f"EXTRA  {path_of_extra}: it is not in the manifest")
    except OSError as error:
        raise StoreUnavailable(
            f"'{path}' cannot be read: {error.strerror}", remedy="Mount the drive; look at the kernel's log."
        ) from error
    _conclude(terminal, found, bad=bad, extra=extra, is_the_drive=inspection.is_the_drive())


def _conclude(terminal: Terminal, found: ManifestFile, *, bad: int, extra: int, is_the_drive: bool) -> None:
    head = found.head
    told = {
        "drive": head.drive,
        "round": head.round,
        "from": head.sender.name,
        "to": head.to,
        "sealed_at": head.sealed_at.isoformat(),
        "files": head.files,
        "bytes": head.bytes,
        "bad": bad,
        "extra": extra,
        "is_the_drive": is_the_drive,
        "fingerprint": found.fingerprint,
    }
    what = f"drive {head.drive}, round {head.round}, sealed by {head.sender.name} for {head.to}"
    beside = [f"not in the manifest, and not taken: {counted(extra, 'file or folder', 'files or folders')}"]
    lines = [
        f"{what} on {instant_text(head.sealed_at)} UTC",
        f"{counted(head.files)}, {size_text(head.bytes)}: {counted(bad, 'is bad', 'are bad') if bad else 'all good'}",
        *(beside if extra else []),
        f"signed by {found.fingerprint}",
    ]
    terminal.one(told, text="\n".join(lines))
    if bad:
        raise IntegrityError(
            f"{counted(bad, 'file or member is', 'files or members are')} not as sealed on drive '{head.drive}'",
            remedy=_REMEDY,
        )
    if not is_the_drive:
        raise IntegrityError(
            f"all is well, but this is not the drive that was sealed as '{head.drive}': it is a copy, or in use again",
            remedy="Its destination takes the drive itself.",
        )
