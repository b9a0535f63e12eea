"""The token of an invitation: one line that shows whether it is whole."""

from datetime import timedelta

import pytest
from pydantic import SecretStr

from librarian.errors import BadRequest
from librarian.timing import utc_now
from librarian.wire.pairing import Invitation, read_token, write_token

INVITATION = Invitation(
    url="https://librarian.chajnantor.example",
    site="chajnantor",
    secret=SecretStr("s" * 43),
    direction="send",
    expires_at=utc_now() + timedelta(days=1),
)
TOKEN = write_token(INVITATION)


def test_a_token_is_one_word_that_says_what_it_is():
    assert TOKEN.startswith("librarian-invitation-1.")
    assert TOKEN.split() == [TOKEN]


def test_a_token_carries_the_invitation_which_shows_no_secret():
    assert read_token(TOKEN) == INVITATION
    assert "sss" not in repr(INVITATION)


def test_a_token_may_be_broken_into_lines():
    assert read_token(f"  {TOKEN[:50]}\n{TOKEN[50:]}  \n") == INVITATION


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TOKEN[:-1], "not whole"),
        (TOKEN[: len(TOKEN) // 2], "not whole"),
        (TOKEN.replace("-1.e", "-1.f"), "not whole"),
        (TOKEN[20:], "no invitation of a librarian"),
        (TOKEN.replace("-1.", "-2."), "has the form 2, this librarian reads form 1"),
        ("swordfish", "no invitation of a librarian"),
        ("", "no invitation of a librarian"),
    ],
)
def test_what_was_cut_short_or_changed_is_told_as_such(text, words):
    with pytest.raises(BadRequest, match=words) as refusal:
        read_token(text)

    assert refusal.value.remedy
