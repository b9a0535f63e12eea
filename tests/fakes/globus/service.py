"""The fake Globus service: Auth and Transfer over HTTP, as far as the real SDK and we use them."""

import asyncio
import base64
import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.fakes.globus.cues import Cue, Cues
from tests.fakes.globus.tasks import Collection, Task

ALL = "urn:globus:auth:scope:transfer.api.globus.org:all"
#: Tasks of one user that work at once, and that may not have ended at all.
AT_ONCE = 3
MOST_PENDING = 100
#: Who asks.
OWNER = web.RequestKey("OWNER", str)
Handler = Callable[[web.Request], Any]


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str, *, headers: dict[str, str] | None = None, **more: Any):
        super().__init__(message)
        self.status, self.headers = status, headers
        self.body = {"code": code, "message": message, "request_id": "fake", **more}


@dataclass
class FakeGlobus:
    """What the service knows. Tests may look at all of it, and change it."""

    on_change: Callable[[], None] = lambda: None
    url: str = ""
    #: Stops answering, for good.
    stop: Callable[[], Awaitable[None]] | None = None
    collections: dict[str, Collection] = field(default_factory=dict)
    #: Confidential clients and their secrets; native clients are those with refresh tokens.
    clients: dict[str, str] = field(default_factory=dict)
    #: Refresh tokens, and the client each was given to.
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    #: Codes that a person brings from the login page.
    login_codes: set[str] = field(default_factory=set)
    cues: Cues = field(default_factory=Cues)
    requests: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, Task] = field(default_factory=dict)
    #: Access tokens and who has them.
    tokens: dict[str, str] = field(default_factory=dict)
    consents: set[tuple[str, str]] = field(default_factory=set)
    #: Submission ids, and the task that each became.
    submissions: dict[str, str | None] = field(default_factory=dict)
    most_pending: int = MOST_PENDING
    #: The longest page of what tasks have done that is given out.
    longest_page: int = 1000

    def __post_init__(self) -> None:
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    # What tests say.

    def add_collection(self, root: Path, *, wants_consent: bool = False) -> str:
        name = str(uuid.uuid4())
        self.collections[name] = Collection(root, wants_consent)
        return name

    def add_client(self) -> tuple[str, str]:
        """A new confidential client, and its secret."""
        client, secret = str(uuid.uuid4()), uuid.uuid4().hex
        self.clients[client] = secret
        return client, secret

    def cue(self, what: str, **more: Any) -> None:
        self.cues.give(Cue(what, **more))

    def release(self) -> None:
        """Let every task go on that waits to be released."""
        for task in self.tasks.values():
            task.released.set()

    async def close(self) -> None:
        runners = [task.runner for task in self.tasks.values() if task.runner is not None]
        for runner in runners:
            runner.cancel()
        ends = await asyncio.gather(*runners, return_exceptions=True)
        # A mistake of the fake's must not pass for a cue.
        for end in ends:
            if isinstance(end, Exception):
                raise end

    # Auth.

    async def token(self, request: web.Request) -> dict[str, Any]:
        form = await request.post()
        grant, scopes = form["grant_type"], str(form.get("scope", ALL))
        if grant == "client_credentials":
            owner, secret = base64.b64decode(request.headers["Authorization"].split()[1]).decode().split(":")
            if self.clients.get(owner) != secret:
                raise Refusal(401, "invalid_client", "no such client", error="invalid_client")
        elif grant == "refresh_token":
            owner = self.refresh_tokens.get(str(form["refresh_token"]), "")
            if owner != form["client_id"]:
                raise Refusal(400, "invalid_grant", "no such refresh token", error="invalid_grant")
        else:
            if form["code"] not in self.login_codes:
                raise Refusal(400, "invalid_grant", "no such code", error="invalid_grant")
            owner = str(form["client_id"])
        self._consent(owner, scopes)
        access, refresh = uuid.uuid4().hex, str(form.get("refresh_token") or uuid.uuid4().hex)
        self.tokens[access] = owner
        if grant == "authorization_code":
            self.refresh_tokens[refresh] = owner
        return {
            "access_token": access,
            "refresh_token": refresh,
            "scope": ALL,
            "expires_in": 172_800,
            "token_type": "Bearer",
            "resource_server": "transfer.api.globus.org",
            "other_tokens": [],
        }

    def _consent(self, owner: str, scopes: str) -> None:
        for name, collection in self.collections.items():
            if f"*{_data_access(name)}" in scopes:
                if not collection.wants_consent:
                    raise Refusal(400, "unknown_scope", f"Unknown Scope {name}", error="unknown_scope")
                self.consents.add((owner, name))

    # Transfer.

    async def submission_id(self, request: web.Request) -> dict[str, Any]:
        value = str(uuid.uuid4())
        self.submissions[value] = None
        return {"DATA_TYPE": "submission_id", "value": value}

    async def submit(self, request: web.Request) -> dict[str, Any]:
        document = await request.json()
        owner = request[OWNER]
        self._check(document, owner)
        known = self.submissions[document["submission_id"]]
        if known is not None:
            return {"DATA_TYPE": "transfer_result", "code": "Duplicate", "task_id": known}
        source, destination = (self.collections[document[f"{end}_endpoint"]] for end in ("source", "destination"))
        task = Task(owner, document, source, destination, self.cues.for_task(), self.on_change)
        if any(other.paths == task.paths and not other.has_ended for other in self.tasks.values()):
            raise Refusal(409, "Conflict", "A transfer with identical paths has not yet completed")
        if sum(not other.has_ended for other in self._tasks_of(owner)) >= self.most_pending:
            raise Refusal(409, "TooManyPendingJobs", "Too many pending tasks")
        self.tasks[task.task_id] = task
        self.submissions[document["submission_id"]] = task.task_id
        task.start(self._slots[owner])
        return {"DATA_TYPE": "transfer_result", "code": "Accepted", "task_id": task.task_id}

    def _check(self, document: dict[str, Any], owner: str) -> None:
        if not document["DATA"]:
            raise Refusal(400, "NoTransferItems", "No transfer items")
        if document["submission_id"] not in self.submissions:
            raise Refusal(400, "BadRequest", "Invalid submission_id")
        label = document.get("label") or ""
        if len(label) > 128 or "\n" in label:
            raise Refusal(400, "BadRequest", "Invalid label")
        for end in ("source_endpoint", "destination_endpoint"):
            name = document[end]
            if name not in self.collections:
                raise Refusal(404, "EndpointNotFound", f"No such collection {name}")
            if self.collections[name].wants_consent and (owner, name) not in self.consents:
                scope = f"{ALL}[*{_data_access(name)}]"
                raise Refusal(403, "ConsentRequired", "Missing required data_access consent", required_scopes=[scope])

    async def task_list(self, request: web.Request) -> dict[str, Any]:
        wanted = dict(clause.split(":", 1) for clause in request.query.get("filter", "").split("/") if clause)
        allowed = {key: set(values.split(",")) for key, values in wanted.items()}
        found = [
            task.document
            for task in self._tasks_of(request[OWNER])
            if all(task.document[key] in values for key, values in allowed.items())
        ]
        return {"DATA_TYPE": "task_list", "DATA": found, "total": len(found), "offset": 0, "limit": 1000}

    async def task(self, request: web.Request) -> dict[str, Any]:
        return self._task(request).document

    async def update(self, request: web.Request) -> dict[str, Any]:
        self._task(request).deadline = datetime.fromisoformat((await request.json())["deadline"])
        return {"DATA_TYPE": "result", "code": "Updated"}

    async def cancel(self, request: web.Request) -> dict[str, Any]:
        self._task(request).cancel()
        return {"DATA_TYPE": "result", "code": "Canceled"}

    async def event_list(self, request: web.Request) -> dict[str, Any]:
        events = self._task(request).events
        if request.query.get("filter") == "is_error:1":
            events = [event for event in events if event["is_error"]]
        return {"DATA_TYPE": "event_list", "DATA": events[: int(request.query.get("limit", 10))], "total": len(events)}

    async def successful_transfers(self, request: web.Request) -> dict[str, Any]:
        return self._page(request, "successful_transfers", self._task(request).successful)

    async def skipped_errors(self, request: web.Request) -> dict[str, Any]:
        return self._page(request, "skipped_errors", self._task(request).skipped)

    def _page(self, request: web.Request, kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        start = int(request.query.get("marker", 0))
        end = start + min(int(request.query.get("limit", 100)), self.longest_page)
        marker = str(end) if end < len(items) else None
        return {"DATA_TYPE": kind, "DATA": items[start:end], "next_marker": marker}

    async def pause_info(self, request: web.Request) -> dict[str, Any]:
        return {"pause_rules": [{"message": "maintenance until Monday"}], "source_pause_message": None}

    async def endpoint(self, request: web.Request) -> dict[str, Any]:
        collection = self.collections[request.match_info["name"]]
        kind = "GCSv5_mapped_collection" if collection.wants_consent else "GCSv5_guest_collection"
        return {"DATA_TYPE": "endpoint", "id": request.match_info["name"], "entity_type": kind, "high_assurance": False}

    async def ls(self, request: web.Request) -> dict[str, Any]:
        name, path = request.match_info["name"], request.query["path"]
        if name not in self.collections:
            raise Refusal(404, "EndpointNotFound", f"No such collection {name}")
        folder = self.collections[name].place(path)
        if not folder.is_dir():
            raise Refusal(404, "ClientError.NotFound", f"Directory {path} not found on endpoint")
        wanted = request.query.get("filter", "").removeprefix("name:")
        found = [{"name": each.name} for each in folder.iterdir() if wanted in ("", each.name)]
        return {"DATA_TYPE": "file_list", "path": path, "DATA": found}

    def _tasks_of(self, owner: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.owner == owner and not _is_gone(task)]

    def _task(self, request: web.Request) -> Task:
        name = request.match_info["name"]
        task = next((task for task in self._tasks_of(request[OWNER]) if task.task_id == name), None)
        if task is None:
            raise Refusal(404, "TaskNotFound", f"No such task {name}")
        return task

    # How requests are answered.

    def answering(self, name: str, handler: Handler) -> Handler:
        """A handler that counts, knows who asks, and misbehaves on cue."""

        async def answer(request: web.Request) -> web.Response:
            self.requests[name] += 1
            cue = self.cues.for_request(name)
            try:
                if name != "token":
                    request[OWNER] = self._owner(request)
                if cue is not None:
                    await _misbehave(cue, handler, request)
                    return web.json_response({"DATA": [{"unexpected": True}]})
                return web.json_response(await handler(request))
            except Refusal as refusal:
                return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)

        return answer

    def _owner(self, request: web.Request) -> str:
        owner = self.tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if owner is None:
            raise Refusal(401, "AuthenticationFailed", "Token is not active")
        return owner


async def _misbehave(cue: Cue, handler: Handler, request: web.Request) -> None:
    wait = {"Retry-After": str(cue.retry_after)}
    match cue.what:
        case "lost_reply":
            await handler(request)
            assert request.transport is not None
            request.transport.abort()
        case "lost_request":
            assert request.transport is not None
            request.transport.abort()
        case "unauthorized":
            raise Refusal(401, "AuthenticationFailed", "Token is not active")
        case "forbidden":
            raise Refusal(403, "PermissionDenied", "no access to the collection")
        case "throttled":
            raise Refusal(429, "TooManyRequests", "slow down", headers=wait)
        case "unavailable":
            raise Refusal(503, "ServiceUnavailable", "maintenance", headers=wait)
        case "endpoint_error":
            raise Refusal(502, "ExternalError.EndpointError", "the endpoint does not answer")


def _data_access(collection: str) -> str:
    return f"https://auth.globus.org/scopes/{collection}/data_access"


def _is_gone(task: Task) -> bool:
    return task.has_ended and any(cue.what == "gone" for cue in task.cues)


async def _steer(service: FakeGlobus, request: web.Request) -> web.Response:
    """``POST /fake {"cues": […], "collections": {id: folder}, "release": true}``: for tests in other processes."""
    told = json.loads(await request.text() or "{}")
    service.cues.give(*(Cue(**cue) for cue in told.get("cues", [])))
    for name, folder in told.get("collections", {}).items():
        service.collections[name] = Collection(Path(folder))
    service.clients |= told.get("clients", {})
    service.login_codes |= set(told.get("login_codes", []))
    if told.get("release"):
        service.release()
    if told.get("forget_tokens"):
        service.tokens.clear()
    tasks = [task.document for task in service.tasks.values()]
    return web.json_response({"requests": dict(service.requests), "tasks": tasks})


def make_app(service: FakeGlobus) -> web.Application:
    """The routes, of both services on one port."""
    app = web.Application(client_max_size=1024**3)
    task = "/v0.10/task/{name}"
    routes: list[tuple[str, str, str, Handler]] = [
        ("POST", "/v2/oauth2/token", "token", service.token),
        ("GET", "/v0.10/submission_id", "submission_id", service.submission_id),
        ("POST", "/v0.10/transfer", "submit", service.submit),
        ("GET", "/v0.10/task_list", "task_list", service.task_list),
        ("GET", task, "task", service.task),
        ("PUT", task, "update", service.update),
        ("POST", f"{task}/cancel", "cancel", service.cancel),
        ("GET", f"{task}/event_list", "event_list", service.event_list),
        ("GET", f"{task}/successful_transfers", "successful_transfers", service.successful_transfers),
        ("GET", f"{task}/skipped_errors", "skipped_errors", service.skipped_errors),
        ("GET", f"{task}/pause_info", "pause_info", service.pause_info),
        ("GET", "/v0.10/endpoint/{name}", "endpoint", service.endpoint),
        ("GET", "/v0.10/operation/endpoint/{name}/ls", "ls", service.ls),
    ]
    for method, path, name, handler in routes:
        app.router.add_route(method, path, service.answering(name, handler))

    async def steer(request: web.Request) -> web.Response:
        return await _steer(service, request)

    app.router.add_post("/fake", steer)
    return app
