"""Pages for people: made whole by the server, without scripts, every value escaped."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Final

import jinja2
from aiohttp import web
from markupsafe import Markup

from librarian import journeys
from librarian.quantities import size_text, span_text
from librarian.states import Role
from librarian.web.route import Answer, Call, Route
from librarian.wire.journeys import DriveStatus

if TYPE_CHECKING:
    from datetime import datetime

    from librarian.wire.journeys import Journey
    from librarian.wire.site import TallyStatus

_TEMPLATES: Final = resources.files("librarian.web") / "templates"
_CSS: Final = (_TEMPLATES / "page.css").read_text("utf-8")
_CSS_HASH: Final = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
#: Nothing comes from anywhere, but for the style that stands in the page itself.
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_CSS_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_READER: Final = frozenset({Role.READER})


def percent(part: TallyStatus, whole: TallyStatus) -> str:
    """The share of *part* in the bytes of *whole*; all of it only when no file is missing."""
    if part.files >= whole.files:
        return "100 %"
    return f"{min(part.bytes * 100 // whole.bytes, 99) if whole.bytes else 0} %"


def _fill(drive: Journey) -> str:
    return f"{drive.held.bytes * 100 // drive.size if drive.size else 0} %"


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


_ENVIRONMENT: Final = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, loader=jinja2.PackageLoader("librarian.web")
)
_ENVIRONMENT.globals.update(
    # Ours, with nothing of anybody else in it.
    css=Markup(_CSS),  # noqa: S704
    size=size_text,
    span=span_text,
    instant=_instant,
    percent=percent,
    fill=_fill,
)


def drives_page(status: DriveStatus, *, site: str) -> str:
    """Where each drive of *site* stands, as HTML."""
    return _ENVIRONMENT.get_template("drives.html").render(status=status, site=site)


async def send_drives_page(call: Call[None, None]) -> web.Response:
    """A page that shows where each drive stands, and how many more will be needed."""
    text = drives_page(await journeys.drive_status(call.site), site=call.site.name)
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)


async def send_drive_status(call: Call[None, None]) -> Answer:
    """Where each drive stands, and how many more will be needed; no disk is asked."""
    return Answer(body=await journeys.drive_status(call.site))


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/status/drives",
        handler=send_drive_status,
        summary="Where each drive stands, and how many more will be needed",
        roles=_READER,
        answer=DriveStatus,
        tag="drives",
    ),
    Route(
        method="GET",
        path="/drives",
        handler=send_drives_page,
        summary="A page that shows where each drive stands",
        roles=_READER,
        answer=str,
        media="text/html",
        tag="drives",
    ),
)
