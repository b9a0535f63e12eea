"""News: requests hear what became of the rows that they wait for."""

import asyncio
from datetime import timedelta

from librarian.bells import News

NOW = timedelta(0)
LONG = timedelta(minutes=1)


async def test_what_is_told_while_somebody_listens_is_heard():
    news = News()

    with news.expect(["a", "b"]) as watch:
        news.tell({"a": 1, "b": 2, "c": 3})
        heard = await watch.heard_of(["a", "b"], within=LONG)

    assert heard == {"a": 1, "b": 2}


async def test_a_request_waits_until_all_is_heard():
    news = News()

    with news.expect(["a", "b"]) as watch:
        news.tell({"a": 1})
        waiting = asyncio.create_task(watch.heard_of(["a", "b"], within=LONG))
        await asyncio.sleep(0)
        was_done = waiting.done()
        news.tell({"b": 2})
        heard = await waiting

    assert not was_done
    assert heard == {"a": 1, "b": 2}


async def test_what_has_come_by_the_end_of_patience_is_given():
    news = News()

    with news.expect(["a", "b"]) as watch:
        news.tell({"b": 2})
        heard = await watch.heard_of(["a", "b"], within=NOW)

    assert heard == {"b": 2}


async def test_everybody_who_waits_for_a_row_hears_of_it():
    news = News()

    with news.expect(["a"]) as first, news.expect(["a"]) as second:
        news.tell({"a": 1})
        heard = await first.heard_of(["a"], within=LONG), await second.heard_of(["a"], within=LONG)

    assert heard == ({"a": 1}, {"a": 1})


async def test_nothing_is_kept_for_those_who_have_left():
    news = News()

    with news.expect(["a"]):
        pass
    news.tell({"a": 1})

    assert not news._watches
