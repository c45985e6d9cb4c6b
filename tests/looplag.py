"""A service with a recorder in its event loop: how much CPU time each callback takes.

    python -m tests.looplag ingest_edge.api ingest_edge.refusals --port 8001

serves the application like its own command, with an additional path: `GET /loop` returns what was
measured since the last request, as `Lag`, and resets it. `measure` sends something and returns its
cost.

It measures the CPU time of the loop's thread (`time.thread_time`) for each callback, so a busy
machine does not change it. The loop is asyncio's own, whose callbacks can be wrapped. With uvloop
each costs a little less. A request's cost is the minimum of several tries, because the garbage
collector or a cold cache may add to some of them.
"""

import asyncio
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from importlib import import_module
from time import sleep, thread_time

import httpx
import msgspec

from contract.settings import load_settings
from runtime.http_service import Service, bind, serve
from runtime.log import configure_log


class Lag(msgspec.Struct):
    """CPU time of the callbacks since the last request."""

    longest_ms: float = 0.0
    """Time of the longest callback."""
    where: str = ""
    """That callback."""
    total_ms: float = 0.0
    callbacks: int = 0


class _Recorder:
    def __init__(self) -> None:
        self.lag = Lag()

    def install(self) -> None:
        """Wrap what asyncio runs: every callback of every loop of this process."""
        run = asyncio.Handle._run

        def measured(handle: asyncio.Handle) -> None:
            start = thread_time()
            run(handle)
            took = (thread_time() - start) * 1000
            lag = self.lag
            lag.total_ms += took
            lag.callbacks += 1
            if took > lag.longest_ms:
                lag.longest_ms, lag.where = took, repr(handle)[:300]

        asyncio.Handle._run = measured  # type: ignore[assignment,method-assign]

    def wrap(self, app):
        async def wrapped(scope, receive, send):
            if scope["type"] != "http" or scope["path"] != "/loop":
                await app(scope, receive, send)
                return
            body, self.lag = msgspec.json.encode(self.lag), Lag()
            length = (b"content-length", b"%d" % len(body))
            await send({"type": "http.response.start", "status": 200, "headers": [length]})
            await send({"type": "http.response.body", "body": body})

        return wrapped


def ask(url: str) -> Lag:
    """Return what was measured since the last call, and reset it."""
    return msgspec.json.decode(httpx.get(f"{url}/loop", timeout=30).content, type=Lag)


def measure(url: str, send: Callable[[], object], tries: int = 3) -> Lag:
    """The cost of what `send` sends and waits for, without threads: the least of several tries."""
    lags = []
    for _ in range(tries):
        ask(url)
        send()
        sleep(0.05)  # the work after the response counts too
        lags.append(ask(url))
    return min(lags, key=lambda lag: lag.longest_ms)


def main() -> int:
    parser = ArgumentParser()
    parser.add_argument("app", help="module with `app`")
    parser.add_argument("refusals", help="module with `refusals`")
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    configure_log()
    recorder = _Recorder()
    recorder.install()
    app = recorder.wrap(import_module(given.app).app)
    service = Service(app, import_module(given.refusals).refusals)
    return serve(service, load_settings(), bind("127.0.0.1", given.port), loop="asyncio")


if __name__ == "__main__":
    sys.exit(main())
