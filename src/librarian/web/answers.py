"""Turning answers into bytes: readable where a person reads, compact where a program does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web
from anyio import to_thread
from pydantic import BaseModel

from librarian.wire.base import PROTOCOL_HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from librarian.web.route import Answer

#: Lists that are longer are written without indentation.
_READABLE_ITEMS: Final = 100


async def render(answer: Answer, request: web.Request) -> web.Response:
    """The HTTP response of *answer*. Programs name the protocol they speak; everybody else gets it indented."""
    body = answer.body
    if body is None:
        return web.Response(status=answer.status, headers=answer.headers or None)
    is_for_program = PROTOCOL_HEADER in request.headers
    if isinstance(body, BaseModel):
        written = _one(body, is_for_program)
    elif len(body) <= _READABLE_ITEMS:
        written = _many(body, is_for_program)
    else:
        written = await to_thread.run_sync(_many, body, is_for_program)
    return web.Response(
        body=written,
        status=answer.status,
        headers=answer.headers or None,
        content_type="application/json",
        charset="utf-8",
    )


def _one(body: BaseModel, is_for_program: bool) -> bytes:
    indent = None if is_for_program or _is_long(body) else 2
    return body.model_dump_json(indent=indent).encode() + b"\n"


def _many(body: Sequence[BaseModel], is_for_program: bool) -> bytes:
    indent = None if is_for_program or len(body) > _READABLE_ITEMS else 2
    return b"[" + b",\n".join(item.model_dump_json(indent=indent).encode() for item in body) + b"]\n"


def _is_long(body: BaseModel) -> bool:
    return any(isinstance(value, (list, tuple)) and len(value) > _READABLE_ITEMS for value in body.__dict__.values())
