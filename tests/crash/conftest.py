"""Sites that tests may crash, copied from one that was set up once."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.crash.harness import CrashSite, Disk, all_gone, free_port

RULE = '\n[[rules]]\nname = "everything"\npeer = "nersc"\nengines = ["http"]\n'


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> dict[str, Path]:
    """The state of two sites with accounts, each made once by the admin commands."""
    made = {}
    for name, other, role in (("chajnantor", "nersc", "callback"), ("nersc", "chajnantor", "upstream")):
        folder = tmp_path_factory.mktemp(name)
        site = CrashSite(name, folder, free_port(), folder)
        site.configure()
        site.admin("account", "create", "demo", "--role", "uploader")
        site.admin("account", "create", other, "--role", role)
        made[name] = folder
    return made


@pytest.fixture
def new_site(prepared, tmp_path) -> Iterator[Callable[..., CrashSite]]:
    """Makes a site from the prepared ones or one *made_of* a folder, on a disk of its own when asked."""
    with ExitStack() as stack:

        def make(name: str, *, has_disk: bool = False, rules: str = "", made_of: Path | None = None) -> CrashSite:
            folder, disk = tmp_path / name, None
            if has_disk:
                disk = Disk.make(tmp_path / f"{name}.img", folder)
            site = CrashSite(name, folder, free_port(), tmp_path, rules, disk)
            stack.enter_context(all_gone(site))
            ignored = shutil.ignore_patterns("*.sock")
            shutil.copytree(made_of or prepared[name], folder, dirs_exist_ok=True, ignore=ignored)
            site.configure()
            if has_disk:
                # What the set-up wrote was on the disk long before.
                subprocess.run(["sync", "--file-system", folder], check=True)
            return site

        yield make


@pytest.fixture
def book(tmp_path) -> Path:
    """A book with members small and large enough to pass every step, and an empty directory."""
    folder = tmp_path / "book"
    (folder / "empty").mkdir(parents=True)
    (folder / "header").write_text("first light\n")
    (folder / "visdata").write_bytes(os.urandom(6_000_000))
    (folder / "flags").write_bytes(os.urandom(5_000_000))
    return folder
