"""The page of the drives: whole without scripts, readable without colours, and nothing in it is taken for more."""

import shutil
from html.parser import HTMLParser

import pytest
from playwright.async_api import async_playwright

from librarian.web.pages import drives_page
from tests.journeys import NONE, TB, a_drive, amount, in_the_post, journey, outlook, status
from tests.site_fixtures import password_of

EVIL = "<script>alert(1)</script>'\"&"


class Reader(HTMLParser):
    """What a page says, and the tags and attributes that it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self._texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._texts).split())


def read(*drives, rules=()) -> Reader:
    return Reader(drives_page(status(*drives, rules=rules), site="chajnantor"))


def test_a_drive_is_shown_with_fill_state_and_age():
    page = read(journey())

    assert "loading for 3 d 2 h" in page.text
    assert "25 % of 4 TB 100 files, 1 TB" in page.text
    assert "plugged in at /media/A07" in page.text


def test_a_drive_that_travels_is_shown_with_what_is_confirmed_waiting_and_failed():
    page = read(in_the_post())

    assert "66 % by nersc of 300 files, 3 TB 99 files, 990 GB 1 file, 10 GB not plugged in" in page.text


@pytest.mark.parametrize(
    ("confirmed", "shown"),
    [(amount(299, 3 * TB), "99 % by nersc"), (amount(300, 3 * TB), "100 % by nersc"), (NONE, "0 % by nersc")],
    ids=["all but an empty file", "all", "none"],
)
def test_all_is_confirmed_only_when_it_is(confirmed, shown):
    assert shown in read(in_the_post(confirmed=confirmed)).text


def test_what_is_due_is_shown_with_the_drives_that_it_takes():
    page = read(journey(), rules=(outlook(),))

    assert "2,000 files, 9 TB 2 TB what is due fills it 1 TB a day" in page.text
    assert "2 more of 4 TB now then 1.75 a week of 4 TB" in page.text


def test_what_waits_for_nobody_and_what_waits_for_a_person_is_told():
    page = read(in_the_post(waiting=NONE), rules=(outlook(quarantined=amount(1, 10)),))

    assert "none nothing on it is waited for any more" in page.text
    assert "in quarantine: 1 file, 10 B" in page.text


def test_a_rule_without_drives_asks_for_one():
    page = read(rules=(outlook(drive_bytes=None, drives_due=None, drives_per_week=None),))

    assert "a drive: none fits the rule yet" in page.text


def test_without_drives_the_page_says_how_to_make_one():
    assert "drive init PATH --name A01" in read().text


def test_no_value_is_taken_for_html():
    drive = journey(EVIL, path=EVIL, problem=EVIL, who=EVIL)
    rule = outlook(rule=EVIL, to=EVIL, drives=[EVIL])

    page = read(drive, in_the_post(to=EVIL, who=EVIL), rules=(rule,))

    assert "script" not in page.tags
    assert page.text.count(EVIL) == 9


def test_the_page_needs_neither_scripts_nor_styles_of_its_own():
    page = read(journey(), in_the_post(), rules=(outlook(),))

    assert page.tags.isdisjoint({"script", "iframe", "img", "link", "form"})
    assert not {name for name in page.attributes if name == "style" or name.startswith("on")}


async def test_a_reader_may_see_it_and_strangers_are_asked_who_they_are(live_server):
    seen = await live_server.call("GET", "/drives", user="reader")
    asked = await live_server.call("GET", "/drives", user=None)

    assert (seen.status, seen.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in seen.headers["Content-Security-Policy"]
    assert (asked.status, asked.headers["WWW-Authenticate"].split()[0]) == (401, "Basic")


@pytest.fixture
async def browser():
    """A browser in which no script runs."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs: chromium")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        await running.close()


async def test_a_browser_draws_the_bars_and_misses_nothing(browser, live_server):
    async with live_server.site.catalog.begin() as tx:
        await tx.drives.add(a_drive("A07"))
    context = await browser.new_context(
        java_script_enabled=False,
        http_credentials={"username": "reader", "password": password_of("reader")},
        forced_colors="active",
    )
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))

    await page.goto(f"{live_server.url}/drives")
    bar = await page.locator("#drives progress").bounding_box()
    row = await page.locator("#drives tbody tr").inner_text()

    assert complaints == []
    assert (bar["width"] > 100, bar["height"] > 8) == (True, True)
    assert row.split()[:3] == ["A07", "round", "1"]
