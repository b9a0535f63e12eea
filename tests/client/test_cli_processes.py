"""The commands as processes: in pipes that break, on terminals, interrupted, and with nothing left out."""

import asyncio
import os
import pty
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.holding import hold

LIBRARIAN = [sys.executable, "-W", "always", "-m", "librarian.cli"]


@pytest.fixture
def database_url(sqlite_url):
    """One database is enough: nothing here depends on which it is."""
    return sqlite_url


async def run_into(stdout, arguments, environment, *, stderr=asyncio.subprocess.PIPE):
    """Run ``librarian`` with its results going to *stdout*; returns its exit code and errors."""
    process = await asyncio.create_subprocess_exec(
        *LIBRARIAN, *arguments, env=environment, stdout=stdout, stderr=stderr, stdin=asyncio.subprocess.DEVNULL
    )
    _, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, (err or b"").decode()


@pytest.fixture
def nobody_reads():
    """The end of a pipe whose other end is closed."""
    theirs, ours = os.pipe()
    os.close(theirs)
    yield ours
    os.close(ours)


async def test_a_reader_that_has_seen_enough_is_no_error(working, environment):
    # More than a pipe holds, so that it breaks in the middle.
    long = "/".join(["x" * 200] * 4)
    for number in range(100):
        await hold(working.site, f"{number}/{long}", b"")
    command = " ".join([*LIBRARIAN, "search", "--all"])

    process = await asyncio.create_subprocess_shell(
        f"set -o pipefail; {command} | head -1",
        executable="/bin/bash",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)

    assert (process.returncode, err) == (0, b"")
    assert out.count(b"\n") == 1


@pytest.mark.parametrize("arguments", [["ping"], ["ping", "--json"], ["--version"], ["--help"]])
async def test_results_that_nobody_reads_are_no_error(working, environment, nobody_reads, arguments):
    code, err = await run_into(nobody_reads, arguments, environment)

    assert (code, err) == (0, "")


async def test_a_failure_that_nobody_reads_keeps_its_code(working, environment, nobody_reads):
    code, _ = await run_into(nobody_reads, ["show", "absent"], environment, stderr=nobody_reads)

    assert code == 2


async def test_results_that_cannot_be_written_are_an_error(working, environment):
    with Path("/dev/full").open("wb") as full:
        code, err = await run_into(full, ["ping"], environment)

    assert code == 2
    assert err.startswith("Error: cannot write the results: No space left on device\n")


async def test_without_standard_output_there_is_no_error(working, environment):
    command = " ".join([*LIBRARIAN, "ping", ">&-"])
    process = await asyncio.create_subprocess_shell(command, env=environment, stderr=asyncio.subprocess.PIPE)

    _, err = await asyncio.wait_for(process.communicate(), 60)

    assert (process.returncode, err) == (0, b"")


async def test_letters_that_an_output_lacks_are_written_as_escapes(working, run_process):
    await hold(working.site, "日本/ä", b"")

    code, out, err = await run_process("search", PYTHONIOENCODING="ascii")

    assert (code, err) == (0, "")
    assert out.startswith("\\u65e5\\u672c/\\xe4\tfile\t0\t")


async def test_a_local_path_need_not_be_text(working, environment, tmp_path):
    await hold(working.site, "a", b"content")
    process = await asyncio.create_subprocess_exec(
        *(*LIBRARIAN, "download", "a", b"\xfe\xff"),
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )

    out, _ = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0
    assert out.split(b"\t")[2] == b"\xfe\xff"
    assert (tmp_path / os.fsdecode(b"\xfe\xff")).read_bytes() == b"content"


async def on_terminal(arguments, environment, folder, *, act=None):
    """Run ``librarian`` on a terminal of its own; returns its exit code and everything it wrote there."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *LIBRARIAN, *map(str, arguments), cwd=folder, env=environment | {"TERM": "xterm"}, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = bytearray()

    def read():
        try:
            while chunk := os.read(ours, 4096):
                written.extend(chunk)
        except OSError:
            # The last writer is gone: a terminal says so with EIO.
            return

    reading = asyncio.create_task(asyncio.to_thread(read))
    if act is not None:
        await act(process, written)
    code = await asyncio.wait_for(process.wait(), 30)
    await reading
    os.close(ours)
    return code, written.decode()


async def test_a_terminal_shows_a_bar_and_then_the_result(working, environment, tmp_path, source, some_bytes):
    path = source(some_bytes(16 * 1024**2))

    code, written = await on_terminal(["upload", "--http", path, "large"], environment, tmp_path)

    assert code == 0
    assert "━" in written
    assert re.search(r"large: uploaded and verified, file, 16\.8 MB, xxh3:[0-9a-f]{32}", written)


async def test_a_terminal_shows_a_table(working, environment, tmp_path):
    await hold(working.site, "2026/a [bold]", b"content")

    code, written = await on_terminal(["search"], environment, tmp_path)

    assert code == 0
    assert "Name" in written
    assert "2026/a [bold]" in written
    assert "7 B" in written


async def test_a_terminal_says_when_nothing_matches(working, environment, tmp_path):
    code, written = await on_terminal(["search", "nothing"], environment, tmp_path)

    assert (code, written.strip()) == (0, "No file matches.")


@pytest.mark.parametrize("command", [["upload", "--http", "source", "large"], ["download", "held", "copy"]])
async def test_interrupting_exits_130_quickly_and_leaves_nothing_half_there(
    working, proxy, environment, tmp_path, some_bytes, command
):
    await hold(working.site, "held", b"content")
    (tmp_path / "source").write_bytes(some_bytes(16 * 1024**2))
    proxy.freeze()

    async def interrupt(process, written):
        while proxy.connections == 0:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)

    code, written = await on_terminal(command, environment | {"LIBRARIAN_URL": proxy.url}, tmp_path, act=interrupt)

    assert code == 130
    assert "Traceback" not in written
    assert [path.name for path in tmp_path.iterdir() if path.name in ("copy", ".copy.librarian-part")] == []


async def test_a_bug_exits_70_with_a_traceback(run_process, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import librarian.client.connections as c\n"
        "def resolve(*a, **k): raise RuntimeError('boom')\n"
        "c.resolve = resolve\n"
    )

    code, _, err = await run_process("ping", PYTHONPATH=str(tmp_path))

    assert code == 70
    assert "Traceback" in err
    assert "RuntimeError: boom" in err
