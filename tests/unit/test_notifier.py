"""The notifier: what Slack answers is told exactly, with what helps; the URL is told to nobody."""

import logging
from datetime import timedelta

import pytest

from librarian.errors import ConfigurationError
from librarian.notifier import Notifier
from librarian.settings import SlackSettings
from tests.fakes.slack import SECRET, slack


@pytest.fixture
async def hook(tmp_path):
    async with slack(tmp_path) as running:
        yield running


async def test_a_message_arrives_as_plain_text(hook):
    reply = await Notifier(hook.settings).send("drive A07 is full")

    assert (reply.is_taken, reply.status, reply.said, reply.remedy) == (True, 200, "ok", "")
    assert hook.bodies == [{"text": "drive A07 is full", "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}]


async def test_a_name_calls_nobody(hook):
    await Notifier(hook.settings).send("a & <!channel>")

    assert hook.shown == ["a &amp; &lt;!channel&gt;"]


@pytest.mark.parametrize(
    ("answer", "said", "remedy", "needs_a_person"),
    [
        ((404, "no_service"), "no_service", "Make a new incoming webhook", True),
        ((403, "invalid_token"), "invalid_token", "copy it again", True),
        ((403, "action_prohibited"), "action_prohibited", "administrator", True),
        ((404, "channel_not_found"), "channel_not_found", "make a webhook for another one", True),
        ((410, "channel_is_archived"), "channel_is_archived", "unarchive it", True),
        ((400, "invalid_payload"), "invalid_payload", "update librarian", True),
        ((404, "<html>not here</html>"), "HTTP 404", "Look at the URL", True),
        ((302, "moved", {"Location": "http://127.0.0.1:1/"}), "moved", "answers in its place", True),
        ((200, "<html>pay for your wifi</html>"), "HTTP 200", "answers in its place", True),
        ((500, "rollup_error"), "rollup_error", "tried again", False),
        ((503, ""), "HTTP 503", "tried again", False),
        ((429, "rate_limited"), "rate_limited", "tried again", False),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else None,
)
async def test_each_refusal_is_told_with_what_helps(hook, answer, said, remedy, needs_a_person):
    hook.will(*answer)

    reply = await Notifier(hook.settings).send("one")

    assert (reply.is_taken, reply.status, reply.said) == (False, answer[0], said)
    assert remedy in reply.remedy
    assert reply.needs_a_person is needs_a_person


@pytest.mark.parametrize(("header", "wait"), [("30", timedelta(seconds=30)), ("soon", None), ("9" * 400, None)])
async def test_it_is_told_how_long_to_wait(hook, header, wait):
    hook.will(429, "rate_limited", {"Retry-After": header})

    reply = await Notifier(hook.settings).send("one")

    assert reply.retry_after == wait


async def test_an_answer_that_does_not_come_is_not_waited_for(hook):
    hook.will("hang")

    reply = await Notifier(hook.settings, patience=timedelta(milliseconds=100)).send("one")

    assert (reply.status, reply.said, reply.needs_a_person) == (None, "no answer within 0.1 s", False)


async def test_a_connection_that_is_closed_in_our_face_is_told(hook):
    hook.will("close")

    reply = await Notifier(hook.settings).send("one")

    assert (reply.status, reply.said) == (None, "the connection was closed before there was an answer")
    assert "hooks.slack.com" in reply.remedy


async def test_a_port_that_nobody_listens_at_is_told(hook):
    hook.settings.webhook_file.write_text(f"http://127.0.0.1:1/services/{SECRET}")

    reply = await Notifier(hook.settings).send("one")

    assert (reply.status, reply.said) == (None, "cannot connect: Connection refused")


@pytest.mark.parametrize("host", ["hooks..slack.com", f"{'h' * 64}.com", "hooks.slack.com:99999", "[::1"])
async def test_a_host_that_cannot_be_is_told(tmp_path, host):
    file = tmp_path / "webhook"
    file.write_text(f"https://{host}/services/T/B/C")

    reply = await Notifier(SlackSettings(webhook_file=file)).send("alert")

    assert reply.said == "the URL of the webhook, or of the proxy, is none"


async def test_a_new_webhook_counts_at_once(hook, tmp_path):
    notifier = Notifier(hook.settings)
    right = hook.settings.webhook_file.read_text()
    hook.settings.webhook_file.write_text("http://127.0.0.1:1/services/old")
    await notifier.send("one")
    hook.settings.webhook_file.write_text(right)

    reply = await notifier.send("two")

    assert reply.is_taken


async def test_a_file_that_is_gone_is_told(hook):
    hook.settings.webhook_file.unlink()

    reply = await Notifier(hook.settings).send("one")

    assert "No such file" in reply.said
    assert reply.needs_a_person


@pytest.mark.parametrize("text", ["", "hooks.slack.com/services/x", "http://hooks.slack.com/services/x", "https:///x"])
def test_only_https_is_a_webhook_and_what_is_none_is_not_shown(tmp_path, text):
    (tmp_path / "webhook").write_text(text)

    with pytest.raises(ConfigurationError) as refusal:
        SlackSettings(webhook_file=tmp_path / "webhook").read_webhook()

    assert "services" not in f"{refusal.value} {refusal.value.remedy}"


@pytest.mark.parametrize("answer", [(404, "no_service"), (200, "ok"), ("close",), (302, "", {"Location": "/x"})])
async def test_the_url_is_in_nothing_that_is_said_or_logged(hook, answer, caplog):
    caplog.set_level(logging.DEBUG)
    hook.will(*answer)
    notifier = Notifier(hook.settings)

    reply = await notifier.send("one")

    ours = [record.getMessage() for record in caplog.records if record.name != "aiohttp.access"]
    assert SECRET not in f"{reply!r} {notifier!r} {hook.settings!r} {ours}"
