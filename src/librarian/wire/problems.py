"""The one shape of every refusal."""

from __future__ import annotations

from pydantic import Field, JsonValue

from librarian.wire.base import Remark, Response


class Problem(Response):
    """Why a request was refused, and what to do."""

    code: Remark = Field(description="Stable; what programs match on.")
    message: Remark = Field(description="What happened, with the values.")
    remedy: Remark = Field(default="", description="What a person can do next.")
    details: dict[str, JsonValue] = Field(default_factory=dict)
    request_id: str = Field(default="", description="Finds the request in the server's log.")
