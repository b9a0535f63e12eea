"""The ``rsync`` engine: has rsync bring batches into the receiver's staging, over ssh.

What was sent in part goes on where it stopped; a restart of ours ends every run, and the next one goes on as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from librarian.errors import BadName, ConfigurationError, PeerUnavailable
from librarian.guard import forbid_io_in_transaction
from librarian.names import SshAddress, SshPath
from librarian.transfers import rsync_links
from librarian.transfers.rsync_run import Run
from librarian.transfers.rsync_troubles import PARTIAL
from librarian.transfers.tasks import InProcessEngine, Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from librarian.names import SiteName
    from librarian.transfers.rsync_run import Ssh
    from librarian.transfers.rsync_troubles import Ending


class RsyncEngine(InProcessEngine):
    """Runs rsync for every batch, and again for what was left."""

    name: ClassVar[str] = "rsync"

    def __init__(
        self,
        ssh: Ssh,
        *,
        folder: Path,
        on_change: Callable[[], None] = lambda: None,
        longest_pause: timedelta = timedelta(minutes=1),
    ) -> None:
        """*folder* is ours alone: what stands there is taken away."""
        super().__init__(on_change=on_change, longest_pause=longest_pause)
        self._ssh = ssh
        self._folder = folder
        self._is_swept = False
        self._sweeping = asyncio.Lock()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sending: defaultdict[str, set[asyncio.Task[Ending]]] = defaultdict(set)

    async def move(self, running: Running) -> None:
        """Send what has not arrived yet."""
        forbid_io_in_transaction("run rsync")
        address, staging = _parsed(running)
        await self._sweep(running)
        folder = self._folder / uuid.uuid4().hex
        try:
            links = await running.in_thread(rsync_links.lay, folder, running.left)
            for item, reason in links.failures:
                running.fail(item, reason)
            run = Run(ssh=self._ssh, address=address, staging=staging, links=links)
            await _keep_what_is_wanted(running, run)
            if running.left:
                await running.in_thread(rsync_links.write_lists, links, running.left)
                _judge(running, await self._send(running, run))
        finally:
            await running.in_thread(rsync_links.clear, folder)
        running.bytes_done = sum(item.size for item in running.left)

    def pace_changed(self, peer: SiteName) -> None:
        """A run keeps to the limit that it began with: those to *peer* begin again, where they stopped."""
        for sending in self._sending[peer]:
            sending.cancel()

    async def _send(self, running: Running, run: Run) -> Ending:
        """Send, and again while the limit changes."""
        peer = running.job.peer
        while True:
            async with self._turn(running):
                rate = running.pace.bytes_per_second
                sending = asyncio.create_task(run.send(_teller(running), rate_limit=rate), name=f"rsync: {peer}")
                self._sending[peer].add(sending)
                try:
                    await asyncio.wait([sending])
                finally:
                    self._sending[peer].discard(sending)
                    sending.cancel()
                    await asyncio.wait([sending])
                if not sending.cancelled():
                    return sending.result()

    def _turn(self, running: Running) -> contextlib.AbstractAsyncContextManager[None]:
        """One at a time where there is a limit: each run keeps to it by itself, and they would add up."""
        return contextlib.nullcontext() if running.pace.bytes_per_second is None else self._turns[running.job.peer]

    async def _sweep(self, running: Running) -> None:
        """Take away, once, what a process before us has left."""
        async with self._sweeping:
            if not self._is_swept:
                await running.in_thread(rsync_links.clear, self._folder)
                self._is_swept = True


def _parsed(running: Running) -> tuple[SshAddress, SshPath]:
    """Where the batch goes.

    Raises
    ------
    ConfigurationError
        What is pinned is nothing that could be handed to ssh.
    """
    try:
        return SshAddress(running.job.address), SshPath(running.job.staging)
    except BadName as error:
        raise ConfigurationError(
            f"the entry point of {running.job.peer} cannot be used: {error.message}",
            remedy="Have the peer correct it, then run 'peer check' with --accept, which pins what it offers.",
        ) from error


async def _keep_what_is_wanted(running: Running, run: Run) -> None:
    """Fail the items whose folder the receiver has taken away.

    Raises
    ------
    PeerUnavailable
        None of the folders is there: it is the staging that is away.
    """
    items = running.left
    if not items:
        return
    ending, said = await run.look()
    trouble = ending.trouble(running.job.peer)
    if trouble is not None:
        raise trouble
    gone = [item for item in items if item.token not in said]
    if len(gone) == len(items):
        raise PeerUnavailable(
            f"the staging {run.staging} of {running.job.peer} is not there, or holds nothing that we were to bring",
            remedy="At the peer, see that it is mounted, and that the entry point names the store's staging.",
        )
    for item in gone:
        running.fail(item, "the receiver takes no bytes for it any more")


def _judge(running: Running, ending: Ending) -> None:
    """Fail the items that did not arrive and will not.

    Raises
    ------
    LibrarianError
        Something is wrong that is not the fault of an item.
    """
    items = {str(item.token): item for item in running.left}
    failures = ending.failures(items)
    for token, reason in failures.items():
        running.fail(items[token], reason)
    trouble = ending.trouble(running.job.peer)
    if trouble is not None:
        raise trouble
    if ending.code in PARTIAL and not failures:
        # It will not say which; tried again they are told apart, since smaller and smaller batches are.
        for item in items.values():
            running.fail(item, f"it may not have arrived: {ending.told}")


def _teller(running: Running) -> Callable[[int], None]:
    """Lets a run say how many bytes it has looked at; those of a run before are not counted twice."""

    def tell(size: int) -> None:
        if size > running.bytes_done:
            running.moved(size - running.bytes_done)

    return tell
