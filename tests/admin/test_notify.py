"""``notify test``: whether people can be told, and what helps where they cannot."""

import json

import pytest

from tests.fakes.slack import SECRET


@pytest.fixture
def deaf(admin, new_config, tmp_path):
    """Run a command for a site whose webhook nobody answers at."""
    (tmp_path / "webhook").write_text(f"http://127.0.0.1:1/services/{SECRET}")
    config = new_config(f'[slack]\nwebhook_file = "{tmp_path}/webhook"')

    def run(*arguments):
        return admin("--config", config, *arguments)

    return run


def test_what_went_wrong_is_told_with_what_helps(deaf):
    told = deaf("notify", "test")

    assert (told.code, told.err) == (3, "")
    assert told.out.splitlines()[0] == "Slack does not have it: cannot connect: Connection refused."
    assert "hooks.slack.com" in told.out
    assert SECRET not in told.out


def test_programs_read_it_as_json(deaf):
    told = deaf("notify", "test", "--json")

    assert (told.code, json.loads(told.out)["is_taken"]) == (3, False)


def test_a_site_without_a_webhook_says_where_to_name_one(idle):
    told = idle("notify", "test")

    assert told.code == 2
    assert "webhook_file" in told.err
