"""What the models refuse, read and mend before anything else sees it."""

import uuid
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from librarian.wire.base import LONGEST_REMARK
from librarian.wire.clones import LATEST_EPOCH, Notice, Notices, OfferedClone
from librarian.wire.problems import Problem

CLONE = {
    "uuid": str(uuid.uuid4()),
    "name": "one",
    "kind": "file",
    "size": 3,
    "checksum": "xxh3:" + "0" * 32,
    "uploader": "ana",
    "origin": "chajnantor",
}
NOTICE = {"seq": 1, "subject": "one", "state": "held", "name": "one", "size": 3, "checksum": "xxh3:" + "0" * 32}


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_instant_that_utc_does_not_have_is_refused(instant):
    with pytest.raises(ValidationError, match="outside the years"):
        OfferedClone.model_validate({**CLONE, "created_at": instant})


def test_an_instant_without_a_zone_is_meant_in_utc():
    clone = OfferedClone.model_validate({**CLONE, "created_at": "2026-01-01T00:00:00"})

    assert clone.created_at == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("epoch", [-1, LATEST_EPOCH + 1, 2**63 - 1])
def test_an_epoch_that_cannot_be_is_refused(epoch):
    with pytest.raises(ValidationError, match="epoch"):
        Notices.model_validate({"site": "nersc", "epoch": epoch, "notices": []})


@pytest.mark.parametrize("field", ["store", "code", "reason"])
def test_words_of_another_site_move_no_cursor_and_stay_short(field):
    notice = Notice.model_validate({**NOTICE, field: "\x1b[2J\r\n\x07" + "ü" * 10_000})

    said = getattr(notice, field)
    assert said.startswith(" [2J   ü")
    assert len(said) == LONGEST_REMARK


def test_a_problem_is_kept_to_plain_words():
    problem = Problem(code="x", message="a\x1b]0;b", remedy="c\nd")

    assert (problem.message, problem.remedy) == ("a ]0;b", "c d")
