"""The synchronous front, in scripts of their own: it needs no closing and says nothing it was not asked."""

import asyncio
import sys

import pytest

from tests.site_fixtures import password_of


@pytest.fixture
def database_url(sqlite_url):
    """One database is enough: nothing here depends on which it is."""
    return sqlite_url


SCRIPTS = {
    "upload": 'print(connect(URL, user=USER, password=PASSWORD).upload("source", "a").checksum)',
    "closed": 'with connect(URL, user=USER, password=PASSWORD) as site: print(site.upload("source", "a").checksum)',
    "many": 'print(connect(URL, user=USER, password=PASSWORD).upload_many([("source", "a")])[0].checksum)',
    "path": 'print(connect(URL, user=USER, password=PASSWORD).upload(Path("source"), Path("a")).checksum)',
    "threads": """
site = connect(URL, user=USER, password=PASSWORD)
with ThreadPoolExecutor(4) as pool:
    done = list(pool.map(lambda n: site.upload("source", f"a/{n}").checksum, range(8)))
print(done[0])
""",
    "in a loop": """
async def main():
    print(connect(URL, user=USER, password=PASSWORD).upload("source", "a").checksum)
asyncio.run(main())
""",
    "after a fork": """
site = connect(URL, user=USER, password=PASSWORD)
site.ping()
if os.fork() == 0:
    print(site.upload("source", "a").checksum)
    sys.exit(0)
os.wait()
""",
    "in a thread that outlives the script": """
site = connect(URL, user=USER, password=PASSWORD)
print(site.upload("source", "a").checksum)
threading.Thread(target=lambda: list(site.search()), daemon=True).start()
""",
}
HEAD = """
import asyncio, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from librarian.client import connect
URL, USER, PASSWORD = sys.argv[1:]
"""


async def run_script(working, folder, text):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "always",
        "-c",
        HEAD + text,
        working.url,
        "uploader",
        password_of("uploader"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_script_uploads_and_exits_quietly_without_closing_anything(working, tmp_path, script):
    (tmp_path / "source").write_bytes(b"content")

    code, out, err = await run_script(working, tmp_path, SCRIPTS[script])

    assert (code, err) == (0, "")
    assert out.startswith("xxh3:")


async def test_a_script_that_fails_shows_the_refusal(working, tmp_path):
    code, _, err = await run_script(
        working, tmp_path, 'connect(URL, user=USER, password=PASSWORD).upload("absent", "a")'
    )

    assert code == 1
    assert "NotFound: 'absent' does not exist" in err


async def test_every_method_of_the_front_waits_for_its_result(working, tmp_path):
    (tmp_path / "source").write_bytes(b"content")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "member").write_bytes(b"x")

    code, out, err = await run_script(
        working,
        tmp_path,
        """
site = connect(URL, user=USER, password=PASSWORD)
site.upload("source", "a")
site.upload("book", "book")
print(site.ping().name, [file.name for file in site.search()], site.describe("a").size,
      site.members("book")[0].path, site.verify("source", "a").size, site.download("a", "got").path.read_bytes())
""",
    )

    assert (code, err) == (0, "")
    assert out == "chajnantor ['book', 'a'] 7 member 7 b'content'\n"
