"""Trying whether people can be told."""

from librarian.notifier import Notifier
from tests.fakes.slack import slack

PATH = "/api/v1/notifications/test"


async def test_a_test_tells_what_slack_answered(live_server, tmp_path):
    async with slack(tmp_path) as hook:
        live_server.site.notifier = Notifier(hook.settings)
        hook.will(404, "no_service")

        refused = await live_server.call("POST", PATH)
        taken = await live_server.call("POST", PATH)

    assert (refused.status, refused.json["is_taken"], refused.json["said"]) == (200, False, "no_service")
    assert "Make a new incoming webhook" in refused.json["remedy"]
    assert taken.json == {"is_taken": True, "status": 200, "said": "ok", "remedy": ""}
    assert hook.shown == ["chajnantor: a test by admin; people are told here."]


async def test_a_test_without_a_webhook_says_where_to_name_one(live_server):
    reply = await live_server.call("POST", PATH)

    assert (reply.status, reply.json["code"]) == (400, "configuration")
    assert "webhook_file" in reply.json["remedy"]
