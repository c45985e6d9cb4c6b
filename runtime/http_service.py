"""Serving an application over HTTP: one way for all our services."""

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
"""How long requests in flight may take at a stop; an acknowledgement takes 10 s at most."""
_SPARE_FILES = 128
"""Open files that are no connections: database, broker, log, libraries."""
_BACKLOG = 2048
_log = structlog.get_logger("http")


@dataclass(frozen=True, slots=True)
class Service:
    """An application and where its refusals are counted."""

    app: Any
    """An ASGI application; its lifespan runs in `runtime.lifespan.run_lifespan`."""
    refusals: Refusals


class _Server(uvicorn.Server):
    """Calls `ready` when it accepts connections, and keeps the collector away from what exists by
    then: a full collection takes longer than all a request may.
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
    """The whole life of a service's process, from its settings on; returns its exit code. What
    keeps it from starting is one line of its log.
    """

    def run() -> int:
        settings = load_settings()
        with bind(host, port) as listener:
            return serve(load(), settings, listener)

    return _reported(name, run)


def run_service_workers(name: str, command: Sequence[str], count: int, host: str, port: int) -> int:
    """The same with `count` processes; `command` starts one, given the number of its socket."""

    def run() -> int:
        server_context(load_settings())
        with bind(host, port) as listener:
            return run_workers(command, count, listener)

    return _reported(name, run)


def run_worker(name: str, load: Callable[[], Service], descriptor: int) -> int:
    """The life of one of those processes."""

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
    """A socket for `serve`. It refuses connections until the service is ready.

    Raises:
        SetupError: the address cannot be listened on.
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
    """Answer requests that come to `listener` until SIGTERM or Ctrl-C, then those in flight.
    Returns the exit code: an application that cannot start has its reason in the log.

    Raises:
        SettingError: the TLS settings are wrong.
        SetupError: another process has begun to listen on the same address.
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
    signal.signal(signal.SIGTERM, _leave)  # raised again by the server once it has stopped
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
    return SetupError(f"--port: {host}:{port} cannot be listened on: {reason}")


def _most_connections(settings: Settings) -> int:
    """The setting, or fewer where this process may not have that many open files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY:
        return settings.http_max_connections
    return min(settings.http_max_connections, max(1, most - _SPARE_FILES))
