"""The desk: how Globus Transfer is asked, at a limited pace and in threads of its own.

The SDK is synchronous and repeats requests by itself, asleep in the thread: here it repeats nothing, since whoever
asks comes again. Each thread has a client of its own; whether one may be shared is not documented.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

import globus_sdk
from globus_sdk.transport import RequestsTransport, RetryConfig

from librarian.errors import (
    BadRequest,
    Conflict,
    EngineFull,
    Forbidden,
    LibrarianError,
    NotFound,
    PeerUnavailable,
    Unauthenticated,
)
from librarian.guard import forbid_io_in_transaction
from librarian.transfers.globus_account import SILENCE
from librarian.transfers.globus_documents import Acceptance, Event, Page, Skipped, TaskNote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from librarian.transfers.globus_account import Account

Answer = TypeVar("Answer")

#: Requests at once: one may be slow, and the others must not wait for it.
THREADS: Final = 4
#: Requests per second, in the long run, and how many may go at once after a rest.
PACE: Final = 10.0
BURST: Final = 20
#: Tasks in one question: an id takes 37 bytes of a URL, and an account has little more than a hundred.
ASKED_AT_ONCE: Final = 150
#: Events that are looked at; the newest come first.
MOST_EVENTS: Final = 100
#: The most items that Globus puts on one page of results.
_WHOLE_PAGE: Final = {"limit": 1000}
#: What Globus calls it when an account has as many tasks as it may have.
TOO_MANY: Final = "TooManyPendingJobs"
#: A new token, and a consent for each of two collections.
MOST_CURES: Final = 3
#: How long to wait when Globus does not say, in seconds.
DEFAULT_REST: Final = 10.0
#: No rest is longer, whatever Globus says, in seconds.
LONGEST_REST: Final = 600.0


class Desk:
    """Asks Globus Transfer as one account. Every method may be repeated.

    Each raises PeerUnavailable when there is no sensible answer, Unauthenticated or Forbidden when a person must see
    to the credentials, and what its own description says.
    """

    def __init__(self, account: Account, *, pace: float = PACE) -> None:
        self._account = account
        self._pace = _Pace(pace)
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="globus")
        self._local = threading.local()
        self._clients: list[tuple[globus_sdk.TransferClient, RequestsTransport]] = []
        self._rests_until = 0.0

    async def close(self) -> None:
        """Ask nothing more; requests that are under way are left alone."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for _, transport in self._clients:
            transport.close()
        self._account.close()

    async def submission_id(self) -> str:
        """A new id under which one task can be submitted, once."""
        return await self._ask(lambda client: str(client.get_submission_id()["value"]))

    async def submit(self, document: globus_sdk.TransferData) -> Acceptance:
        """Submit a transfer; the same submission id again gives the task that it had.

        Raises
        ------
        Conflict
            A task with the same paths is under way.
        BadRequest
            Globus will never take it.
        EngineFull
            The account has as many tasks as it may have.
        """
        return await self._ask(lambda client: Acceptance.read(client.submit_transfer(document).data))

    async def tasks(self, ids: Sequence[str]) -> dict[str, TaskNote]:
        """What is known of the tasks called *ids*, in one request for a hundred or so; those unknown are left out."""
        found: dict[str, TaskNote] = {}
        for start in range(0, len(ids), ASKED_AT_ONCE):
            asked = list(ids[start : start + ASKED_AT_ONCE])
            notes = await self._task_list({"task_id": asked})
            found |= {note.task_id: note for note in notes}
        return found

    async def active(self) -> list[TaskNote]:
        """Every task of the account that has not ended."""
        return await self._task_list({"status": ["ACTIVE", "INACTIVE"]})

    async def task(self, task_id: str) -> TaskNote | None:
        """What is known of one task; None when Globus knows no such task."""
        try:
            return await self._ask(lambda client: TaskNote.read(client.get_task(task_id).data))
        except NotFound:
            return None

    async def errors_of(self, task_id: str) -> list[Event]:
        """The newest events of a task that are errors, the newest first."""
        return await self._ask(
            lambda client: [
                Event.read(event)
                for event in client.task_event_list(task_id, limit=MOST_EVENTS, query_params={"filter": "is_error:1"})
            ]
        )

    async def see(self, collection: str, path: str) -> None:
        """Look whether *path* on *collection* can be listed.

        Raises
        ------
        NotFound
            There is no such collection, or nothing on it under *path*.
        """
        try:
            await self._ask(lambda client: client.operation_ls(collection, path=path, limit=1))
        except LibrarianError as error:
            remedy = error.remedy or "Compare the store's collection and paths with what Globus shows."
            raise type(error)(
                f"cannot list {path} on the collection {collection}: {error.message}", remedy=remedy
            ) from error

    async def skipped(self, task_id: str, marker: str | None) -> Page[Skipped]:
        """A page of what a task that has ended has left out, and why; *marker*: where it begins."""
        return await self._ask(
            lambda client: Page.read(
                client.task_skipped_errors(task_id, marker=marker or globus_sdk.MISSING, query_params=_WHOLE_PAGE).data,
                Skipped.read,
            )
        )

    async def delivered(self, task_id: str, marker: str | None) -> Page[str]:
        """A page of the destination paths of the files that a task has moved, once it has ended.

        What stood there before is not told.
        """
        return await self._ask(
            lambda client: Page.read(
                client.task_successful_transfers(
                    task_id, marker=marker or globus_sdk.MISSING, query_params=_WHOLE_PAGE
                ).data,
                lambda each: str(each["destination_path"]),
            )
        )

    async def holds(self, collection: str, path: str, name: str) -> bool:
        """Whether the directory *path* of *collection* holds an entry called *name*.

        Raises
        ------
        NotFound
            There is no such directory, or no such collection.
        """
        return await self._ask(
            lambda client: any(
                entry["name"] == name
                for entry in client.operation_ls(collection, path=path, show_hidden=True, filter=f"name:{name}")
            )
        )

    async def why_paused(self, task_id: str) -> str:
        """What those who paused a task say about it."""

        def ask(client: globus_sdk.TransferClient) -> str:
            answer = client.task_pause_info(task_id)
            rules = [str(rule.get("message") or "") for rule in answer.get("pause_rules") or []]
            told = [answer.get("source_pause_message"), answer.get("destination_pause_message"), *rules]
            return "; ".join(str(message) for message in told if message)

        return await self._ask(ask)

    async def extend(self, task_id: str, deadline: datetime) -> None:
        """Give a task until *deadline*."""
        document = {"DATA_TYPE": "task", "deadline": deadline.isoformat(timespec="seconds")}
        await self._ask(lambda client: client.update_task(task_id, document))

    async def cancel(self, task_id: str) -> None:
        """Stop a task; one that has ended stays as it is."""
        try:
            await self._ask(lambda client: client.cancel_task(task_id))
        except (NotFound, Conflict):
            return

    async def _task_list(self, wanted: dict[str, list[str]]) -> list[TaskNote]:
        return await self._ask(
            lambda client: [TaskNote.read(task) for task in client.task_list(limit=1000, filter=dict(wanted))]
        )

    async def _ask(self, call: Callable[[globus_sdk.TransferClient], Answer]) -> Answer:
        forbid_io_in_transaction("ask Globus")
        await self._pace.turn()
        left = self._rests_until - time.monotonic()
        if left > 0:
            raise PeerUnavailable(f"Globus is left alone for {left:.0f} s more", remedy="It goes on by itself.")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._insist, call)
        except globus_sdk.GlobusError as error:
            self._rest_if_told(error)
            raise translate(error) from error
        except (KeyError, TypeError, ValueError) as error:
            raise PeerUnavailable(
                f"Globus gave an answer that makes no sense: {error!r}",
                remedy="Check that GLOBUS_SDK_SERVICE_URL_TRANSFER, if it is set, leads to Globus.",
            ) from error

    def _insist(self, call: Callable[[globus_sdk.TransferClient], Answer]) -> Answer:
        """Call, and again with a new token or another consent where that is all it takes; in a thread."""
        client = self._client()
        for _ in range(MOST_CURES):
            try:
                return call(client)
            except globus_sdk.TransferAPIError as error:
                if not self._has_cured(error):
                    raise
        return call(client)

    def _has_cured(self, error: globus_sdk.TransferAPIError) -> bool:
        wanted = error.info.consent_required
        if wanted:
            return self._account.consent(wanted.required_scopes)
        return error.http_status == 401 and self._account.handle_missing_authorization()

    def _client(self) -> globus_sdk.TransferClient:
        client: globus_sdk.TransferClient | None = getattr(self._local, "client", None)
        if client is None:
            transport = RequestsTransport(http_timeout=SILENCE)
            client = globus_sdk.TransferClient(
                authorizer=self._account, transport=transport, retry_config=RetryConfig(max_retries=0)
            )
            self._local.client = client
            self._clients.append((client, transport))
        return client

    def _rest_if_told(self, error: globus_sdk.GlobusError) -> None:
        if isinstance(error, globus_sdk.GlobusTimeoutError):
            # Every other question would wait as long, and the questions behind it as well.
            self._rests_until = time.monotonic() + DEFAULT_REST
        if isinstance(error, globus_sdk.GlobusAPIError) and error.http_status in (429, 503):
            told = error.headers.get("Retry-After", "")
            rest = float(told) if told.isdigit() else DEFAULT_REST
            self._rests_until = time.monotonic() + min(rest, LONGEST_REST)


class _Pace:
    """Lets so many pass in a second, and a burst after a rest."""

    def __init__(self, per_second: float) -> None:
        self._span = 1 / per_second
        self._next_at = 0.0

    async def turn(self) -> None:
        now = time.monotonic()
        self._next_at = max(self._next_at, now - BURST * self._span) + self._span
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)


def full() -> EngineFull:
    """The account has as many tasks at Globus as it may have, of ours and of whoever shares it."""
    return EngineFull(
        "Globus has as many tasks of this account as it takes", remedy="It goes on by itself when some have ended."
    )


def translate(error: globus_sdk.GlobusError) -> LibrarianError:
    """What an error of the SDK means to us."""
    if not isinstance(error, globus_sdk.GlobusAPIError):
        return PeerUnavailable(f"Globus does not answer: {error}", remedy="Check the network; it goes on by itself.")
    said = f"{error.message or error.code or 'no reason'} ({error.http_status})"
    if isinstance(error, globus_sdk.AuthAPIError) and 400 <= error.http_status < 500 and error.http_status != 429:
        return Unauthenticated(
            f"Globus does not accept our credentials: {said}",
            remedy="Put a secret or a refresh token that is valid into the file that the settings name.",
        )
    if error.info.consent_required:
        scopes = " ".join(error.info.consent_required.required_scopes)
        return Forbidden(f"Globus wants a consent: {scopes}", remedy="Log in to Globus again, with these scopes.")
    if error.code == TOO_MANY:
        return full()
    match error.http_status:
        case 401:
            return Unauthenticated(
                f"Globus does not accept our token: {said}", remedy="Check the clock, and the client's credentials."
            )
        case 403:
            return Forbidden(
                f"Globus does not permit it: {said}",
                remedy="Give the client's identity access to both collections; see 'Connect to Globus'.",
            )
        case 404:
            return NotFound(f"Globus knows no such thing: {said}")
        case 409:
            return Conflict(f"Globus is at it already: {said}")
        case 400 | 422:
            return BadRequest(f"Globus does not understand us: {said}")
    return PeerUnavailable(f"Globus is in trouble: {said}", remedy="It is tried again by itself.")
