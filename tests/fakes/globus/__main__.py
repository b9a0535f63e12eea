"""``python -m tests.fakes.globus [--port N]``: prints its URL, and serves until it is stopped."""

import argparse
import asyncio
import contextlib
import signal
import sys

from tests.fakes.globus import fake_globus


async def main() -> None:
    parser = argparse.ArgumentParser(description="A Globus on loopback, for tests.")
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with fake_globus(port=port) as globus:
        sys.stdout.write(f"{globus.url}\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
