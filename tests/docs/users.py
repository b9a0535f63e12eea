"""People who type what the pages say, with an empty home and real servers."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from librarian.admin.commands import main
from tests.commands import Outcome, run_command
from tests.starting import Started

PORT = "127.0.0.1:21108"
#: When a test stops hoping; nothing waits for this to pass.
PATIENCE = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class User:
    """Somebody with an empty home, whose librarian answers on a free port."""

    home: Path
    port: int = field(default_factory=free_port)
    more: dict[str, str] = field(default_factory=dict)
    server: subprocess.Popen | None = None
    listening: threading.Thread | None = None
    log: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "LIBRARIAN__LISTEN": f"127.0.0.1:{self.port}",
        } | self.more

    def types(self, *commands: str) -> str:
        """What the shell says to *commands*, of which none may fail."""
        script = "\n".join(commands).replace(PORT, f"127.0.0.1:{self.port}")
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def orders(self, text: str) -> list[Outcome]:
        """What the admin commands in *text* say one after the other, run within this process."""
        said = []
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            assert words[:3] == ["python", "-m", "librarian.admin"], line
            with contextlib.chdir(self.home):
                said.append(run_command(main, *words[3:], environment=self.environment))
        return said

    def starts(self, command: str) -> None:
        """Leave what the shell makes of *command* running, and wait until it says that it serves."""
        self._listens(subprocess.Popen(["bash", "-c", f"exec {command}"], **self._surroundings()))

    def serves(self) -> None:
        """As ``starts("librarian serve")``, and quicker."""
        self._listens(Started(["librarian.cli", "serve"], **self._surroundings()))

    def _surroundings(self) -> dict[str, Any]:
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return {"cwd": self.home, "env": self.environment, **output}

    def _listens(self, server: subprocess.Popen) -> None:
        self.server = server
        told = threading.Event()
        self.listening = threading.Thread(target=self._listen, args=(self.server, told))
        self.listening.start()
        assert told.wait(PATIENCE), self.log
        assert " serves http" in self.log, self.log

    def _listen(self, server: subprocess.Popen, told: threading.Event) -> None:
        """Keep what *server* says to its end: one that nobody listens to would wait."""
        for line in server.stdout:
            self.log += line
            if " serves http" in line:
                told.set()
        told.set()

    def stops(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(PATIENCE)
            self.listening.join()
            self.server.stdout.close()
            self.server = None


def run_again(user: User) -> None:
    user.stops()
    user.serves()


@contextmanager
def two_sites(folder: Path, *, nersc: str = "") -> Iterator[dict[str, User]]:
    """The two sites of the how-to pages, each on its machine below *folder*; *nersc*: more settings of that one."""
    with ExitStack() as stack:
        users = {}
        for name, settings in (("chajnantor", ""), ("nersc", nersc)):
            users[name] = stack.enter_context(a_site(folder, name, settings))
        yield users


@contextmanager
def a_site(folder: Path, name: str, settings: str = "") -> Iterator[User]:
    """A site called *name* with one store and these *settings*, whose server runs."""
    home = folder / name
    home.mkdir()
    (home / "site.toml").write_text(
        f'name = "{name}"\nstate = "{home}/state"\n{settings}[[stores]]\nname = "fast"\n'
        f'root = "{home}/store"\nstaging = "{home}/staging"\n'
    )
    user = User(home, more={"LIBRARIAN_CONFIG": str(home / "site.toml")})
    try:
        user.serves()
        yield user
    finally:
        user.stops()
