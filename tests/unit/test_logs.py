"""Logs leave the process without holding it up."""

import contextlib
import io
import json
import logging
import threading
from datetime import timedelta

import pytest

from librarian import logs
from librarian.logs import set_up_logging


class Stuck(io.StringIO):
    """A stream that takes nothing until it is released: a full pipe."""

    def __init__(self):
        super().__init__()
        self.released = threading.Event()

    def write(self, text):
        self.released.wait(60)
        return super().write(text)


@pytest.fixture
def stuck():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = Stuck()
    yield stream
    stream.released.set()
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def log_to(stream, *, form):
    with contextlib.redirect_stderr(stream):
        set_up_logging(form=form, level="INFO")


def finish():
    for handler in logging.getLogger().handlers:
        handler.close()


def test_who_logs_does_not_wait_for_the_stream(stuck):
    log_to(stuck, form="text")

    logging.getLogger("somebody").info("one")

    # Still here, though nothing could be written.
    assert stuck.getvalue() == ""


def test_what_waits_is_written_before_the_end(stuck):
    log_to(stuck, form="text")
    logging.getLogger("somebody").info("one")
    logging.getLogger("somebody").info("two")

    stuck.released.set()
    finish()

    assert [line.rpartition(" ")[2] for line in stuck.getvalue().splitlines()] == ["one", "two"]


def test_a_reader_that_does_not_read_holds_up_no_end(stuck, monkeypatch):
    monkeypatch.setattr(logs, "LAST_WORDS", timedelta(0))
    log_to(stuck, form="text")
    logging.getLogger("somebody").info("one")

    logs.finish_logging()

    # Still here, though nothing could be written.
    assert stuck.getvalue() == ""


def test_what_nobody_reads_is_dropped_and_counted(stuck, monkeypatch):
    monkeypatch.setattr(logs, "MOST_WAITING", 2)
    log_to(stuck, form="text")
    for number in range(10):
        logging.getLogger("somebody").info("line %d", number)

    stuck.released.set()
    finish()

    *told, last = stuck.getvalue().splitlines()
    # The thread may have taken the first from the queue already.
    assert [line.rpartition(" ")[2] for line in told] == [str(number) for number in range(len(told))]
    assert f"Dropped {10 - len(told)} lines that nobody read in time" in last


def test_extra_fields_and_tracebacks_reach_the_json(stuck):
    log_to(stuck, form="json")
    stuck.released.set()

    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("somebody").exception("it failed", extra={"event": "failed"})
    finish()

    line = json.loads(stuck.getvalue())
    assert (line["message"], line["event"]) == ("it failed", "failed")
    assert "ValueError: inside" in line["exc_info"]
