"""``librarian``: bring, find and fetch files; and run the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import librarian
from librarian.cli import carrying, finding
from librarian.cli.terminal import new_app, run_app

app = new_app(
    "Keep research data: bring files and books, find them, fetch them, and prove that they are intact.\n\n"
    "The librarian to speak to is --at, LIBRARIAN_URL (with LIBRARIAN_USER and LIBRARIAN_PASSWORD), or the default "
    "connection in ~/.config/librarian/client.toml.\n\n"
    "Exit codes: 0 done; 2 the request cannot be granted as it is; 3 not reachable or not able now, try again; "
    "4 bytes are not what they should be; 70 a bug.",
    completes=True,
)


def _say_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"librarian {librarian.__version__}")
        raise typer.Exit


@app.callback()
def start(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""


@app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", envvar="LIBRARIAN_CONFIG", help="Settings in TOML. Default: a state folder of your own."
        ),
    ] = None,
) -> None:
    """Run the librarian of a site until SIGTERM or Ctrl-C.

    Without a configuration it keeps everything in `~/.local/state/librarian` and prints a password once.

    Example: `librarian serve --config site.toml`
    """
    # The server's libraries take a second to load: the other commands go without.
    from librarian import serve as server

    raise typer.Exit(server.main(config))


for command in (
    carrying.upload,
    finding.search,
    finding.show,
    finding.where,
    carrying.download,
    carrying.verify,
    finding.ping,
):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    run_app(app, "librarian")


if __name__ == "__main__":
    main()
