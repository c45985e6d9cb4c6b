"""Serve an application over HTTP. All our services use this."""

import gc
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import structlog
import uvicorn

from contract.errors import IotError, SetupError
from contract.settings import Settings, load_settings
from runtime.http_server import Protocol
from runtime.refusals import Refusals
from runtime.shell import begin, exit_code
from runtime.tls import server_context
from runtime.workers import become_worker, run_workers

_GRACE_S = 15
"""How long requests in flight may take on shutdown. An acknowledgement takes up to 10 s."""
_SPARE_FILES = 128
"""Open files that are not connections: database, broker, log, libraries."""
_BACKLOG = 2048
_log = structlog.get_logger("http")


@dataclass(frozen=True, slots=True)
class Service:
    """An application and the counter of its refusals."""

    app: Any
    """An ASGI application; its lifespan runs in `runtime.lifespan.run_lifespan`."""
    refusals: Refusals


class _Server(uvicorn.Server):
    """Calls `ready` when it accepts connections, and then freezes the garbage collector's objects.

    A full collection over them would take longer than a request may.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        self._ready()


def run_service(name: str, load: Callable[[], Service], host: str, port: int) -> int:
    """Run a service in this process, and return the exit code.

    An error that prevents the start is logged in one line.
    """

    def run() -> int:
        settings = load_settings()
        with bind(host, port) as listener:
            return serve(load(), settings, listener)

    return _reported(name, run)


def run_service_workers(name: str, command: Sequence[str], count: int, host: str, port: int) -> int:
    """Run a service in `count` processes. `command`, with a socket number, starts one."""

    def run() -> int:
        server_context(load_settings())
        with bind(host, port) as listener:
            return run_workers(command, count, listener)

    return _reported(name, run)


def run_worker(name: str, load: Callable[[], Service], descriptor: int) -> int:
    """Run one of these processes, and return its exit code."""

    def run() -> int:
        listener, ready = become_worker(descriptor)
        return serve(load(), load_settings(), listener, ready)

    return _reported(name, run)


def _reported(name: str, run: Callable[[], int]) -> int:
    begin()
    try:
        return run()
    except IotError as error:
        structlog.get_logger(name).error("cannot start", reason=str(error))
        return exit_code(error)


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket for `serve`. It refuses connections until the service is ready.

    Raises:
        SetupError: it is not possible to listen on the address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SetupError(f"--host: {host} is not an address of this machine: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _taken(host, port, error) from error
    return listener


def serve(
    service: Service,
    settings: Settings,
    listener: socket.socket,
    ready: Callable[[], None] = lambda: None,
    loop: str = "auto",
) -> int:
    """Answer requests on `listener` until SIGTERM or Ctrl-C, then finish those in flight.

    Returns the exit code. If the application cannot start, the reason is in the log.

    Raises:
        SettingError: the TLS settings are wrong.
        SetupError: another process listens on the same address.
    """
    context = server_context(settings)
    config = uvicorn.Config(
        service.app,
        http=partial(Protocol, service.refusals, _most_connections(settings)),  # type: ignore[arg-type]
        loop=loop,
        ws="none",
        lifespan="on",
        backlog=_BACKLOG,
        log_config=None,
        log_level="info",
        access_log=False,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_keep_alive=settings.http_keep_alive_seconds,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_context_factory=None if context is None else lambda *_: context,
    )
    host, port = listener.getsockname()[:2]
    _log.info("listening", host=host, port=port, tls=settings.http_tls_certificate is not None)
    server = _Server(config, ready)
    signal.signal(signal.SIGTERM, _leave)  # the server raises it again after it has stopped
    try:
        server.run([listener])
    except KeyboardInterrupt:
        return 0
    except SystemExit as error:
        if error.code == 0:
            return 0
        return exit_code(server.lifespan.state.get("failed"))
    except OSError as error:
        if server.started:
            raise
        raise _taken(host, port, error) from error
    return 0


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


def _taken(host: str, port: int, error: OSError) -> SetupError:
    reason = (error.strerror or str(error)).lower()
    return SetupError(f"--port: cannot listen on {host}:{port}: {reason}")


def _most_connections(settings: Settings) -> int:
    """The setting, or less if the limit on open files is lower."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if limit == resource.RLIM_INFINITY:
        return settings.http_max_connections
    return min(settings.http_max_connections, max(1, limit - _SPARE_FILES))
