"""The post between sites of a model: requests that reach the other site's handlers, or suffer on their way."""

from collections import deque
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from librarian import auth, guard
from librarian.catalog.records import Account
from librarian.client.answers import read_answer
from librarian.client.connection import write_body
from librarian.errors import PeerUnavailable
from librarian.names import AccountId, AccountName
from librarian.peers import Neighbours
from librarian.states import Role
from librarian.web import clones
from librarian.web.route import Call, adapter_of


class Fate(Enum):
    """What becomes of one request."""

    ARRIVES = "arrives"
    LOST = "lost"
    ANSWER_LOST = "answer lost"
    DOUBLED = "doubled"
    #: Its sender hears nothing; it arrives when the model says so, or never.
    DELAYED = "delayed"
    #: It arrives, and once more when the model says so, or never.
    ECHOED = "echoed"


class Crashed(BaseException):
    """The site that was at work is gone, in the middle of it."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One request on its way."""

    sender: str
    receiver: str
    path: str
    body: bytes


#: The site at whose expense the present code runs.
AT: ContextVar[str] = ContextVar("site at work", default="")
_ROUTES = {(route.method, route.path.removeprefix("/api/v1")): route for route in clones.ROUTES}


@dataclass
class Post:
    """Carries requests between the sites of a world."""

    sites: dict = field(default_factory=dict)
    fates: deque = field(default_factory=deque)
    delayed: list[Letter] = field(default_factory=list)
    #: The site that is to crash, and after how many of its named steps.
    trap: tuple[str, int] | None = None

    def on_step(self, step: str) -> None:
        if self.trap is None or self.trap[0] != AT.get():
            return
        site, steps = self.trap
        self.trap = (site, steps - 1) if steps else None
        if not steps:
            raise Crashed(step)

    async def carry(self, letter: Letter) -> bytes:
        """The answer to *letter*, unless its fate is another."""
        fate = self.fates.popleft() if self.fates else Fate.ARRIVES
        if fate in (Fate.DELAYED, Fate.ECHOED):
            self.delayed.append(letter)
        if fate in (Fate.LOST, Fate.DELAYED):
            raise PeerUnavailable(f"{letter.receiver} does not answer")
        if fate is Fate.DOUBLED:
            await self.hand_over(letter)
        answer = await self.hand_over(letter)
        if fate is Fate.ANSWER_LOST:
            raise PeerUnavailable(f"the answer of {letter.receiver} was lost")
        return answer

    async def hand_over(self, letter: Letter) -> bytes:
        """*letter* arrives: the handler's answer."""
        receiver = self.sites[letter.receiver]
        if receiver.site is None:
            raise PeerUnavailable(f"{letter.receiver} is down")
        route = _ROUTES["POST", letter.path]
        caller = _account(letter.sender)
        auth.require(caller, route.roles)
        call = Call(
            request=None,
            site=receiver.site,
            caller=caller,
            body=adapter_of(route.body).validate_json(letter.body),
            query=None,
            request_id="model",
        )
        try:
            async with working(letter.receiver):
                answer = await route.handler(call)
        except Crashed:
            await receiver.drop()
            raise PeerUnavailable(f"{letter.receiver} went down") from None
        return write_body(answer.body)


@asynccontextmanager
async def working(site: str):
    """What runs within runs at the expense of *site*: it is the one that may crash."""
    token = AT.set(site)
    try:
        yield
    finally:
        AT.reset(token)


def _account(name: str) -> Account:
    return Account(
        id=AccountId(1),
        name=AccountName(name),
        roles=frozenset({Role.UPSTREAM, Role.CALLBACK}),
        is_enabled=True,
        version=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


class Postman(Neighbours):
    """The neighbours of one site, reached by post."""

    def __init__(self, post: Post, known: Neighbours, sender: str) -> None:
        super().__init__(catalog=known._catalog, site=known._site, key_file=known.secrets._key_file)
        self._post = post
        self._sender = sender

    async def has_changed(self, peer, *, every) -> bool:
        """Entry points stay as they were pinned."""
        return False

    async def _line(self, peer):
        guard.forbid_io_in_transaction("call a peer")
        return _Line(self._post, self._sender, peer)


@dataclass(frozen=True)
class _Line:
    """What the neighbours take for a connection."""

    post: Post
    sender: str
    receiver: str

    async def request(self, method, path, *, answer, body, **_):
        letter = Letter(sender=self.sender, receiver=self.receiver, path=path, body=write_body(body))
        return read_answer(await self.post.carry(letter), adapter_of(answer), url=f"post:{self.receiver}")
