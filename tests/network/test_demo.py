"""The demonstration as people run it: two servers, seen to the end, kept, or interrupted; nothing stays behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

DEMO = [sys.executable, "-m", "librarian.demo", "--big", "100000"]
#: When a test stops hoping; nothing waits for this to pass.
PATIENCE = 120


@dataclass
class Shown:
    """A demonstration that runs: what it has printed so far, and the folder that holds all it makes."""

    process: subprocess.Popen
    folder: Path
    text: str = ""

    def read_until(self, line: str) -> None:
        for read in self.process.stdout:
            self.text += read
            if line in read:
                return
        pytest.fail(f"it ended before it said {line!r}: {self.text}{self.process.stderr.read()}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        self.text += self.process.communicate(timeout=PATIENCE)[0]
        return self.process.returncode

    def processes(self) -> list[str]:
        """Command lines of whatever still works in the folder."""
        lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
        return [line for line in lines if str(self.folder) in line]


@contextmanager
def demonstration(folder: Path, *options: str) -> Iterator[Shown]:
    """Run the demonstration in a pipe, with everything that it makes in *folder*."""
    data = folder.parent / "night"
    (data / "book").mkdir(parents=True)
    (data / "book" / "visdata").write_bytes(b"visible" * 1000)
    (data / "run.uvh5").write_bytes(b"light" * 1000)
    folder.mkdir()
    process = subprocess.Popen(
        [*DEMO, "--data", data, *options],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    shown = Shown(process, folder)
    try:
        yield shown
    finally:
        if process.poll() is None:
            shown.stop()
        process.stdout.close()
        process.stderr.close()


@dataclass(frozen=True)
class Seen:
    """What a demonstration with ``--keep`` came to, from its first line to the Ctrl-C that ended it."""

    text: str
    curl: subprocess.CompletedProcess
    file_at_second_site: bytes
    code: int
    left: list[Path]
    processes: list[str]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    with demonstration(tmp_path_factory.mktemp("demo") / "work", "--keep") as shown:
        shown.read_until("Next: ")
        (curl,) = [line for line in shown.text.splitlines() if line.startswith("  curl ")]
        (store,) = [line.split()[-1] for line in shown.text.splitlines() if "ls -R " in line]
        answered = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=False)
        content = Path(store, "night", "run.uvh5").read_bytes()
        code = shown.stop()
        return Seen(shown.text, answered, content, code, list(shown.folder.iterdir()), shown.processes())


@pytest.mark.parametrize(("name", "kind"), [("night/book", "book"), ("night/run.uvh5", "file")])
def test_every_payload_is_listed_as_verified_at_both_sites(seen, name, kind):
    (line,) = [line.split() for line in seen.text.splitlines() if line.startswith(f"{name} ")]

    assert line[1] == kind
    assert "xxh3:" in line[4]
    assert line[5:9] == ["1", "✓", "1", "✓"]


def test_a_download_is_proved_byte_for_byte(seen):
    assert "Downloaded night/book from nersc: 7,000 bytes, each as it was uploaded." in seen.text


def test_a_pipe_gets_plain_lines(seen):
    assert "\x1b" not in seen.text
    assert "━" not in seen.text


def test_the_line_for_curl_works_as_it_is_pasted(seen):
    assert seen.curl.returncode == 0
    assert '"name": "generated/big-book"' in seen.curl.stdout


def test_the_files_stand_at_the_second_site_as_plain_files(seen):
    assert seen.file_at_second_site == b"light" * 1000


def test_ctrl_c_is_how_a_kept_demonstration_ends_and_leaves_nothing_behind(seen):
    assert seen.code == 0
    assert seen.left == []
    assert seen.processes == []


@pytest.mark.parametrize("moment", ["Making two sites", "Two librarians are up"])
def test_ctrl_c_in_the_middle_leaves_nothing_behind(tmp_path, moment):
    with demonstration(tmp_path / "work") as shown:
        shown.read_until(moment)

        code = shown.stop()

    assert code == 130
    assert list(shown.folder.iterdir()) == []
    assert shown.processes() == []


def test_a_globus_of_its_own_moves_the_bytes(tmp_path):
    with demonstration(tmp_path / "work", "--globus", "--keep") as shown:
        shown.read_until("Next: ")
        settings = Path(shown.folder, next(shown.folder.iterdir()), "chajnantor", "site.toml").read_text()
        code = shown.stop()

    assert 'engines = ["globus"]' in settings
    assert "A Globus of our own moves the bytes" in shown.text
    assert "3 are verified at nersc as well" in shown.text
    assert (code, list(shown.folder.iterdir()), shown.processes()) == (0, [], [])


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    with demonstration(tmp_path_factory.mktemp("carried") / "work", "--sneakernet", "--keep") as shown:
        shown.read_until("Next: ")
        (store,) = [line.split()[-1] for line in shown.text.splitlines() if "ls -R " in line]
        content = Path(store, "night", "run.uvh5").read_bytes()
        code = shown.stop()
        return Seen(shown.text, None, content, code, list(shown.folder.iterdir()), shown.processes())


def test_a_drive_is_carried_between_sites_that_are_cut_off_released_and_carried_again(carried):
    told = [line.partition(":")[0] for line in carried.text.splitlines()]

    there = ["Loaded", "Sealed for nersc", "Unplugged", "Received at nersc"]
    steps = [*there, "The link is back.", "Confirmed", "Released"]
    assert [line for line in told if line in steps] == steps * 2


def test_what_was_carried_stands_at_both_sites_and_comes_back_as_it_was(carried):
    rows = [line.split() for line in carried.text.splitlines() if line.startswith(("night/", "generated/"))]

    assert [row[5:9] for row in rows] == [["1", "✓", "1", "✓"]] * 3
    assert carried.file_at_second_site == b"light" * 1000
    assert "each as it was uploaded" in carried.text


def test_a_carried_demonstration_leaves_nothing_behind(carried):
    mounts = Path("/proc/self/mounts").read_text()

    assert (carried.code, carried.left, carried.processes) == (0, [], [])
    assert "librarian-demo-" not in mounts
