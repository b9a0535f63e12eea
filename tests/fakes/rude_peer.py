"""What answers for a librarian, and now and then with nonsense: passes requests on, unless it was told what to say.

::

    async with rude_peer(live.url) as rude:
        rude.says("/clones", b"garbage")         # answers the next offer with it, and passes it to nobody
        rude.says("/clones", make)               # answers the next with what ``make(body)`` gives
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

API = "/api/v1"
_PASSED_ON = ("Authorization", "Content-Type", "Librarian-Protocol")

#: The whole answer to a request: given, or made of the request's body.
Answer = bytes | Callable[[bytes], bytes]


@dataclass
class RudePeer:
    """Passes requests on to *target*, except those that it has something to say about."""

    target: str
    session: aiohttp.ClientSession
    url: str = ""
    status: int = 200
    _says: defaultdict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))

    def says(self, path: str, *answers: Answer, status: int = 200) -> None:
        """Answer the next requests to *path* (below the API) with *answers*, one each."""
        self.status = status
        self._says[path] += answers

    @property
    def has_said_all(self) -> bool:
        """Whether everything was said that was to be said."""
        return not any(self._says.values())

    async def answer(self, request: web.Request) -> web.Response:
        sent = await request.read()
        waiting = self._says[request.path.removeprefix(API)]
        if waiting:
            said = waiting.pop(0)
            body = said(sent) if callable(said) else said
            return web.Response(status=self.status, body=body, content_type="application/json")
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        async with self.session.request(
            request.method, self.target + request.path_qs, headers=headers, data=sent
        ) as reply:
            return web.Response(status=reply.status, body=await reply.read(), content_type=reply.content_type)


@asynccontextmanager
async def rude_peer(target: str) -> AsyncIterator[RudePeer]:
    """A rude peer on loopback before the server at *target*."""
    async with aiohttp.ClientSession() as session:
        rude = RudePeer(target, session)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", rude.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        place = web.TCPSite(runner, "127.0.0.1", 0)
        await place.start()
        rude.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield rude
        finally:
            await runner.cleanup()
