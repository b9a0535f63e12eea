"""Notifications: whether people can be told."""

from __future__ import annotations

from pydantic import Field

from librarian.wire.base import Response


class NotificationTest(Response):
    """What became of a message to Slack."""

    is_taken: bool = Field(description="Slack has it, and shows it in the channel.")
    status: int | None = Field(description="Of Slack's answer; null when there was none.")
    said: str = Field(description="What Slack answered, or why there was no answer.")
    remedy: str = Field(description="What helps; empty when nothing is wrong.")
