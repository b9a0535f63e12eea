"""Notifications: trying whether people can be told."""

from __future__ import annotations

from typing import Final

from librarian.errors import ConfigurationError
from librarian.states import Role
from librarian.web.route import Answer, Call, Route
from librarian.wire.notifications import NotificationTest


async def test_notifier(call: Call[None, None]) -> Answer:
    """Send a message to Slack now, and say exactly what Slack answered."""
    notifier = call.site.notifier
    if notifier is None:
        raise ConfigurationError(
            "the settings name no Slack webhook",
            remedy="Write the webhook's URL into a file, name it as 'webhook_file' in [slack], and start again.",
        )
    reply = await notifier.send(f"{call.site.name}: a test by {call.caller.name}; people are told here.")
    return Answer(
        body=NotificationTest(is_taken=reply.is_taken, status=reply.status, said=reply.said, remedy=reply.remedy)
    )


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/api/v1/notifications/test",
        handler=test_notifier,
        summary="Send a message to Slack, and tell what it answered",
        roles=frozenset({Role.ADMIN}),
        answer=NotificationTest,
        refusals=(ConfigurationError,),
        tag="site",
    ),
)
