"""Uploads: open, describe, commit and cancel them. How the bytes come is in ``upload_content``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from librarian import intake, openings
from librarian.catalog.incoming_rows import Commit
from librarian.catalog.records import Incoming
from librarian.checksum import Checksum
from librarian.errors import (
    BadChecksum,
    BadName,
    LibrarianError,
    NameBusy,
    NameHeld,
    NameNested,
    NoRoom,
    NotFound,
    StoreUnavailable,
    WrongState,
)
from librarian.names import FileName
from librarian.states import LIVE, OPEN, Kind, Role, TransferState
from librarian.turns import in_turns
from librarian.web import around, arrivals
from librarian.web.refusals import problem_of
from librarian.web.route import Answer, Call, Route
from librarian.wire.problems import Problem
from librarian.wire.uploads import CommitMany, CommitUpload, OpenMany, OpenUpload, Upload, UploadAnswer, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from librarian.site import Site

#: Bytes of a list of 4,096 uploads with long names.
LIST_BYTES: Final = 16 * 1024**2
UPLOADERS: Final = frozenset({Role.UPLOADER})
TAG: Final = "uploads"


async def open_upload(call: Call[OpenUpload | list[OpenUpload], None]) -> Answer:
    """Open one upload, or (an array) many, each with its own answer."""
    asked = call.body if isinstance(call.body, list) else [call.body]
    answers = await intake.open_uploads(call.site, call.caller, await in_turns(_request, asked))
    describe = _Describer(call)
    if isinstance(call.body, list):
        return Answer(body=await in_turns(describe.answer, answers))
    answer = answers[0]
    if isinstance(answer, LibrarianError):
        raise answer
    is_new = answer.state is TransferState.INITIATED and answer.created_at == answer.progressed_at
    upload = describe.upload(answer)
    return Answer(body=upload, status=201 if is_new else 200, headers={"Location": _path(answer.uuid)})


def _request(asked: OpenUpload) -> openings.UploadRequest:
    return openings.UploadRequest(
        name=FileName(asked.name), size=asked.size, kind=Kind(asked.kind), checksum=_checksum(asked.checksum)
    )


async def describe_upload(call: Call[None, None]) -> Answer:
    """Tell how an upload stands."""
    upload = await intake.describe(call.site, call.caller, _id_of(call))
    return Answer(body=_Describer(call).upload(upload, received=await received(call.site, upload)))


async def cancel_upload(call: Call[None, None]) -> Answer:
    """Give up an upload."""
    return Answer(body=_Describer(call).upload(await intake.cancel(call.site, call.caller, _id_of(call))))


async def commit_upload(call: Call[CommitUpload | None, Wait]) -> Answer:
    """Say that the bytes are all there, and wait for the verdict."""
    checksum = None if call.body is None else call.body.checksum
    answer = (await _commit(call, [Commit(uuid=_id_of(call), checksum=_checksum(checksum))], call.query))[0]
    if isinstance(answer, LibrarianError):
        raise answer
    is_pending = answer.state in LIVE
    return Answer(
        body=_Describer(call).upload(answer),
        status=202 if is_pending else 200,
        headers={"Location": _path(answer.uuid)} if is_pending else {},
    )


async def commit_uploads(call: Call[CommitMany, Wait]) -> Answer:
    """Commit many uploads; each has its own answer."""
    commits = await in_turns(lambda each: Commit(uuid=each.id, checksum=_checksum(each.checksum)), call.body)
    describe = _Describer(call)
    return Answer(body=await in_turns(describe.answer, await _commit(call, commits, call.query)))


async def _commit(call: Call[object, Wait], commits: Sequence[Commit], query: Wait) -> list[intake.Answer]:
    site = call.site
    ids = [commit.uuid for commit in commits]
    # Listened for before the commit: a verdict that comes at once is not missed, and needs no second look.
    with site.news.expect(ids) as watch:
        answers = await intake.commit_uploads(site, call.caller, commits)
        pending = [each.uuid for each in answers if isinstance(each, Incoming) and each.state in LIVE]
        if not pending or query.wait == 0:
            return answers
        settled = await intake.wait_until_settled(site, pending, timedelta(seconds=query.wait), watch=watch)
    return [settled.get(each.uuid, each) if isinstance(each, Incoming) else each for each in answers]


def _checksum(text: str | None) -> Checksum | None:
    return None if text is None else Checksum(text)


def _id_of(call: Call[object, object]) -> str:
    return call.request.match_info["id"]


def _path(id_: str) -> str:
    return f"/api/v1/uploads/{id_}"


async def received(site: Site, upload: Incoming) -> int | None:
    """Bytes of *upload* that have arrived; None while nobody can look, and once they are measured or given up."""
    if upload.state is TransferState.COMPLETED:
        return upload.size
    if upload.state not in OPEN or upload.store not in site.stores:
        return None
    store = site.stores.lookup(upload.store)
    return None if store.problem is not None else await arrivals.staged(store, upload)


class _Describer:
    """Turns uploads into answers; what they share is found once."""

    def __init__(self, call: Call[object, object]) -> None:
        self._site = call.site
        self._request_id = call.request_id
        self._base = base_url(call.site, call.request)
        self._staging = {store.name: str(store.staging) for store in call.site.stores}

    def answer(self, answer: intake.Answer) -> UploadAnswer:
        if isinstance(answer, LibrarianError):
            return UploadAnswer(problem=problem_of(answer, request_id=self._request_id))
        return UploadAnswer.model_construct(upload=self.upload(answer), problem=None)

    def upload(self, upload: Incoming, *, received: int | None = None) -> Upload:
        """*upload* as it is told; built of what was checked before, so it is not checked again."""
        folder = f"{self._staging.get(upload.store, '')}/{upload.token}"
        return Upload.model_construct(
            id=upload.uuid,
            name=upload.name,
            kind=upload.kind,
            size=upload.size,
            checksum=upload.checksum,
            state=upload.state,
            store=upload.store,
            staging_path=f"{folder}/payload",
            content_url=f"{self._base}{_path(upload.uuid)}/content",
            probe_path=folder,
            ways=["shared", "http"],
            received=upload.size if upload.state is TransferState.COMPLETED else received,
            created_at=upload.created_at,
            problem=self._problem(upload),
        )

    def _problem(self, upload: Incoming) -> Problem | None:
        if upload.code is None:
            return None
        waits = upload.state in LIVE
        remedy = "It is tried again by itself." if waits else "Look at the reason, then open the upload again."
        return Problem(
            code=upload.code, message=upload.reason or upload.code, remedy=remedy, request_id=self._request_id
        )


def describe(call: Call[object, object], upload: Incoming, *, received: int | None = None) -> Upload:
    """*upload* as ``PUT`` answers it."""
    return _Describer(call).upload(upload, received=received)


def base_url(site: Site, request: web.Request) -> str:
    """Where we are reached: as configured, else as this request did."""
    return (site.settings.public_url or request.app[around.ADDRESSES].base_of(request)).rstrip("/")


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/uploads",
        handler=open_upload,
        summary="Open an upload, or many",
        roles=UPLOADERS,
        body=OpenUpload | OpenMany,
        answer=Upload | list[UploadAnswer],
        statuses=(200, 201),
        refusals=(BadName, BadChecksum, NameHeld, NameBusy, NameNested, NoRoom, StoreUnavailable),
        body_limit=LIST_BYTES,
        tag=TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/uploads/commit",
        handler=commit_uploads,
        summary="Commit many uploads",
        roles=UPLOADERS,
        body=CommitMany,
        query=Wait,
        answer=list[UploadAnswer],
        body_limit=LIST_BYTES,
        tag=TAG,
    ),
    Route(
        method="GET",
        path="/api/v1/uploads/{id}",
        handler=describe_upload,
        summary="How an upload stands",
        roles=UPLOADERS,
        answer=Upload,
        refusals=(NotFound, StoreUnavailable),
        tag=TAG,
    ),
    Route(
        method="DELETE",
        path="/api/v1/uploads/{id}",
        handler=cancel_upload,
        summary="Give up an upload",
        roles=UPLOADERS,
        answer=Upload,
        refusals=(NotFound, NameBusy, WrongState),
        tag=TAG,
    ),
    Route(
        method="POST",
        path="/api/v1/uploads/{id}/commit",
        handler=commit_upload,
        summary="Say that the bytes are all there",
        roles=UPLOADERS,
        body=CommitUpload | None,
        query=Wait,
        answer=Upload,
        statuses=(200, 202),
        refusals=(NotFound, NameBusy, WrongState, BadChecksum),
        tag=TAG,
    ),
)
