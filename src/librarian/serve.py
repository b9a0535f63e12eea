"""The server: one process per site, from its first row to an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import stat
import sys
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import uvloop
from aiohttp import web

from librarian.auth import OPERATOR, ensure_first_admin
from librarian.catalog.lock import owner_lock
from librarian.client.socket_path import short_path
from librarian.errors import ConfigurationError, DatabaseUnavailable, OwnedElsewhere, Unavailable
from librarian.logs import finish_logging, set_up_logging
from librarian.settings import check_settings, load_settings
from librarian.site import open_site
from librarian.tasks.everything import all_tasks
from librarian.tasks.supervisor import Supervisor
from librarian.web import around
from librarian.web.app import create_app, make_runner
from librarian.web.runner import PATIENCE
from librarian.wire.site import Liveness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from librarian.settings import Settings
    from librarian.site import Site

log = logging.getLogger(__name__)

T = TypeVar("T")

BACKLOG: Final = 512
#: New objects until the youngest are collected, and how many such collections until the older ones are.
COLLECT_AFTER: Final = (5_000, 20, 100)
#: How long the exit waits for what a library left behind, before it ends the process regardless.
LAST_BREATH_SECONDS: Final = 10.0
#: How long the exit waits for a start that was cancelled, or for the last generation to be stamped into the stores.
LAST_STEP_SECONDS: Final = 2.0


def main(config: Path | None) -> NoReturn:
    """Serve the site described by *config* (by default this machine's own) until SIGTERM or SIGINT.

    Raises
    ------
    LibrarianError
        It could not start.
    """
    settings = load_settings(config)
    check_settings(settings, config)
    set_up_logging(form=settings.log_format, level=settings.log_level)
    _bury_children()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))
        # An ordinary exit would wait for threads, and tasks, that are stuck in a dead mount.
        _leave(0)


async def serve(settings: Settings) -> None:
    """Serve until a signal comes, or start the process anew when it is not the owner of its catalog any more."""
    stop = asyncio.Event()
    _heed_signals(stop, patience=settings.limits.drain)
    listener = await _listen_or_tell_why(settings)
    with contextlib.closing(listener):
        async with AsyncExitStack() as site_stack:
            async with _waiting_room(settings, listener):
                opening = asyncio.create_task(site_stack.enter_async_context(open_site(settings)), name="open the site")
                if not await _came_first(opening, stop):
                    return
                site = opening.result()
            await _greet(site)
            await _run(site, listener, stop)


async def _run(site: Site, listener: socket.socket, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_network(site, listener))
        await stack.enter_async_context(_admin_socket(site))
        stack.push_async_callback(_step_for_the_last_time, site)
        supervisor = Supervisor(site, all_tasks(site))
        supervisor.start()
        stack.push_async_callback(supervisor.drain, grace=site.settings.limits.drain)
        stack.callback(site.health.drain)
        log.info(
            "Site %s serves %s",
            site.name,
            _url(site.settings, listener),
            extra={"event": "serving", "pid": os.getpid()},
        )
        spare_the_loop()
        watch = asyncio.create_task(site.ownership.watch(), name="ownership")
        if await _came_first(watch, stop):
            if not isinstance(error := watch.exception(), OwnedElsewhere):
                watch.result()
            log.error("Cannot go on as the owner of this catalog: %s", error)
            _start_anew(site)
        log.info("Draining: no new work, what is under way ends or is released")


def spare_the_loop() -> None:
    """Let the collector of cycles leave alone what stays anyway, and look at the rest in small and rare portions.

    It holds every thread: a look at the modules and tables alone takes a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


async def _step_for_the_last_time(site: Site) -> None:
    """Let the generation grow: an older copy of the catalog, put back while no server runs, will be noticed."""
    stepping = asyncio.create_task(site.ownership.step(), name="last step")
    stepping.add_done_callback(lambda step: step.cancelled() or step.exception())
    # A store that hangs keeps its stamp; that is the harmless direction, and no reason to stay.
    await asyncio.wait((stepping,), timeout=LAST_STEP_SECONDS)


def _start_anew(site: Site) -> NoReturn:
    """Replace this process by a new one, at once: no thread, act or answer of a former owner may survive."""
    for pid in site.pool.worker_pids:
        os.kill(pid, signal.SIGKILL)
    finish_logging()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - ourselves


def _bury_children() -> None:
    """Take leave of processes that ``_start_anew`` killed: they were ours before, and have ended by now."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _leave(code: int) -> NoReturn:
    finish_logging()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _came_first(work: asyncio.Future[T], stop: asyncio.Event) -> bool:
    """Wait until *work* is done or *stop* comes; whether it was *work*. What was not done is cancelled and awaited."""
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait((stopping, work), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not stop.is_set():
        return True
    work.cancel()
    await asyncio.wait((work,), timeout=LAST_STEP_SECONDS)
    return False


def _heed_signals(stop: asyncio.Event, *, patience: timedelta) -> None:
    def heed() -> None:
        if stop.is_set():
            # Asked twice: whoever did wants it now; the next start takes up what is left.
            os._exit(130)
        stop.set()
        # A thread that is stuck in a dead mount, or a library that waits for one, must not hold up the end.
        last = threading.Timer(patience.total_seconds() + LAST_BREATH_SECONDS, os._exit, (0,))
        last.daemon = True
        last.start()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heed)


async def _listen_or_tell_why(settings: Settings) -> socket.socket:
    """Listen; where that is impossible since this very site is served already, say so and by whom."""
    try:
        return _listen(settings)
    except ConfigurationError:
        lock = owner_lock(settings.database_url, password=settings.database_password)
        with contextlib.suppress(DatabaseUnavailable, ConfigurationError, OSError):
            await lock.take()
        await lock.release()
        raise


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {settings.listen}: {error.strerror}",
            remedy="Another server may use that address; set 'listen' to a free one.",
        ) from error
    listener.setblocking(False)
    return listener


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls.certificate, settings.tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"cannot use the certificate {settings.tls.certificate} with its key: {error}",
            remedy="Give a PEM certificate and the private key that belongs to it.",
        ) from error
    return context


def _url(settings: Settings, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return settings.public_url or f"{'https' if settings.tls else 'http'}://{name}:{port}"


@asynccontextmanager
async def _waiting_room(settings: Settings, listener: socket.socket) -> AsyncIterator[None]:
    """Answer orchestrators while the site is being opened: alive, but not ready."""

    async def say_alive(_: web.Request) -> web.Response:
        return web.json_response(Liveness().model_dump())

    async def refuse(_: web.Request) -> NoReturn:
        raise Unavailable(
            "the site is starting and waits for its database or stores",
            remedy="Try again shortly; the server's log says what it waits for.",
            details={"retry_after": 1},
        )

    app = web.Application(middlewares=[around.around])
    app.on_response_prepare.append(around.mark)
    app.router.add_get("/healthz", say_alive)
    app.router.add_route("*", "/{rest:.*}", refuse)
    runner = make_runner(app, patience=timedelta(seconds=1))
    await runner.setup()
    try:
        await web.SockSite(runner, listener.dup(), ssl_context=_tls(settings)).start()
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _network(site: Site, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the application where the settings say."""
    runner = make_runner(create_app(site), patience=_patience(site.settings))
    await runner.setup()
    try:
        await web.SockSite(runner, listener.dup(), ssl_context=_tls(site.settings)).start()
        yield
    finally:
        await runner.cleanup()


def _patience(settings: Settings) -> timedelta:
    """How long an end waits for requests under way; those that take longer can be repeated or resumed."""
    return min(settings.limits.drain, PATIENCE)


@asynccontextmanager
async def _admin_socket(site: Site) -> AsyncIterator[None]:
    """Serve the same application as admin on a socket that only this user can open."""
    path = site.settings.admin_socket
    runner = make_runner(create_app(site, everybody_is=OPERATOR), patience=_patience(site.settings))
    await runner.setup()
    # We own the site: a socket that is still there belongs to a process that died.
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(short_path(path))
    finally:
        os.umask(before)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


async def _greet(site: Site) -> None:
    password = await ensure_first_admin(site.catalog, site.doorkeeper)
    if password is not None:
        # Not a log line: logs are kept, and this must not be.
        print(f"Password of the account 'admin' (shown only now): {password}", flush=True)  # noqa: T201
