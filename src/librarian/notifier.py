"""Slack: one message to an incoming webhook, and what to do about each way in which that can fail."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import aiohttp
from anyio import to_thread

from librarian.errors import ConfigurationError
from librarian.guard import forbid_io_in_transaction

if TYPE_CHECKING:
    from librarian.settings import SlackSettings

#: A message that is not taken within this time is tried again later.
PATIENCE: Final = timedelta(seconds=10)
#: Slack asks for texts of less than 4,000 characters.
#: Source: docs.slack.dev, "chat.postMessage", "Truncating content".
LONGEST: Final = 3900
#: Of an answer, so many bytes are read: Slack's are one word.
_ANSWER: Final = 300
_CONNECTION: Final = "See that this machine may call hooks.slack.com over https, or set HTTPS_PROXY for the server."
_NEW_HOOK: Final = "Make a new incoming webhook in Slack, and write its URL into {file}."
#: What Slack says, and what helps.
#: Source: docs.slack.dev, "Sending messages using incoming webhooks", "Handling errors".
_REMEDIES: Final = {
    "no_service": _NEW_HOOK,
    "no_service_id": _NEW_HOOK,
    "no_active_hooks": _NEW_HOOK,
    "no_team": _NEW_HOOK,
    "invalid_token": "The URL in {file} is not whole: copy it again from Slack.",
    "channel_not_found": "The channel is gone: make a webhook for another one, and write its URL into {file}.",
    "channel_is_archived": "The channel is archived: unarchive it, or write the URL of another webhook into {file}.",
    "user_not_found": "The person it was for is gone: make a webhook for a channel, and write its URL into {file}.",
    "action_prohibited": "An administrator of the Slack workspace has to allow this webhook to post.",
    "posting_to_general_channel_denied": "The webhook may not post to that channel: make one for another channel.",
    "team_disabled": "The Slack workspace is disabled: use the webhook of another one.",
    "invalid_payload": "Slack does not understand the message; update librarian.",
    "no_text": "Slack does not understand the message; update librarian.",
}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What became of a message."""

    #: Of the answer; None when there was none.
    status: int | None
    #: Slack's own word, or why there was no answer.
    said: str
    #: What helps; empty when nothing is wrong.
    remedy: str = ""
    #: It asked us to wait this long.
    retry_after: timedelta | None = None
    #: It will fail again until somebody does something.
    needs_a_person: bool = False

    @property
    def is_taken(self) -> bool:
        """Whether Slack has the message. What answers in its place says something else."""
        return self.status == 200 and self.said == "ok"


class Notifier:
    """Posts to the incoming webhook that the settings name. Its URL is a secret, and in nothing that is said here."""

    def __init__(self, settings: SlackSettings, *, patience: timedelta = PATIENCE) -> None:
        self._settings = settings
        self._patience = patience.total_seconds()

    async def send(self, text: str) -> Reply:
        """Post *text* as it stands; every way to fail is a reply. A repeat posts it again."""
        forbid_io_in_transaction("post to Slack")
        try:
            # Read anew each time: a new one counts at once.
            url = await to_thread.run_sync(self._settings.read_webhook)
        except ConfigurationError as error:
            return Reply(status=None, said=error.message, remedy=error.remedy, needs_a_person=True)
        try:
            return await self._post(url, text)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # The words of these errors are not ours to show: some have the URL in them.
            return Reply(status=None, said=self._trouble(error), remedy=_CONNECTION)

    async def _post(self, url: str, text: str) -> Reply:
        message = {"text": _escaped(text[:LONGEST]), "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
        async with (
            asyncio.timeout(self._patience),
            aiohttp.ClientSession(trust_env=True) as session,
            session.post(url, json=message, allow_redirects=False) as answer,
        ):
            said = (await answer.content.read(_ANSWER)).decode(errors="replace").strip()
            return self._reply(answer.status, said, answer.headers.get("Retry-After"))

    def _reply(self, status: int, said: str, retry_after: str | None) -> Reply:
        word = said if said.isascii() and said.replace("_", "").isalnum() and len(said) < 60 else ""
        reply = Reply(status=status, said=word or f"HTTP {status}", retry_after=_seconds(retry_after))
        if reply.is_taken:
            return reply
        if status == 429:
            remedy = "Nothing: Slack takes about one message a second, and it is tried again."
        elif status >= 500:
            remedy = "Nothing: the trouble is Slack's, and it is tried again."
        elif status < 400:
            remedy = "Something between here and Slack answers in its place: look at the URL in {file} and at proxies."
        else:
            remedy = _REMEDIES.get(word, "Look at the URL in {file}; it begins with https://hooks.slack.com/services/.")
        return replace(
            reply,
            remedy=remedy.format(file=self._settings.webhook_file),
            needs_a_person=status < 500 and status != 429,
        )

    def _trouble(self, error: Exception) -> str:
        return f"no answer within {self._patience:g} s" if isinstance(error, TimeoutError) else _trouble(error)


def _trouble(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "the connection is not safe: its certificate is not trusted"
        case aiohttp.ClientConnectorDNSError():
            return "the name of the host is not known"
        case aiohttp.ClientProxyConnectionError():
            return "the proxy cannot be reached"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {os.strerror(error.os_error.errno or errno.ECONNABORTED)}"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            return "the connection was closed before there was an answer"
        case ValueError():
            return "the URL of the webhook, or of the proxy, is none"
    return f"the connection broke: {type(error).__name__}"


def _escaped(text: str) -> str:
    # These three have a meaning there: a name with <!channel> in it would call everybody.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _seconds(retry_after: str | None) -> timedelta | None:
    """The header's value in seconds, its only form at Slack; nobody is asked to wait for weeks."""
    is_number = retry_after is not None and len(retry_after) < 8 and retry_after.isdecimal()
    return timedelta(seconds=int(retry_after or "0")) if is_number else None
