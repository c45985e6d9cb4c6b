"""Detect the kind of listener at an address, when a Kafka client cannot say why it fails."""

import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Address = tuple[str, int]
_PORT = 9092
_SASL_HANDSHAKE, _VERSION = 17, 1
_LONGEST = 65_536


@dataclass(frozen=True, slots=True)
class Listener:
    """What was detected. None: could not be detected."""

    tls: bool | None = None
    distrust: str | None = None
    """Why its certificate is not trusted."""
    mechanisms: tuple[str, ...] = ()
    """The SASL mechanisms that it offers, if clients must authenticate."""


def split_address(text: str) -> Address:
    """Host and port of an address as in `KAFKA_BOOTSTRAP_SERVERS`.

    >>> split_address(" SSL://broker.example"), split_address("[::1]:19092")
    (('broker.example', 9092), ('::1', 19092))
    """
    host = text.strip().rpartition("://")[2]
    name, _, port = host.rpartition(":")
    if not port.isdecimal() or not name or (":" in name and not name.startswith("[")):
        name, port = host, str(_PORT)
    return name.strip("[]"), int(port)


def connect_error(address: Address, seconds: float) -> str | None:
    """Why no connection can be opened. None if it can."""
    try:
        socket.create_connection(address, seconds).close()
    except socket.gaierror as error:
        return f"host {address[0]} is unknown: {error.strerror}"
    except TimeoutError:
        return f"no connection within {seconds:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return None


def look_at(address: Address, seconds: float, ca: str | None) -> Listener:
    """Connect up to three times, each for up to `seconds`, to detect the listener at `address`.

    `ca` is a file or folder of trusted certificates, None for those of this machine.
    """
    distrust = None
    try:
        with _tls(address, seconds, ca) as connection:
            return Listener(True, None, _mechanisms(connection))
    except ssl.SSLCertVerificationError as error:
        distrust = error.verify_message
    except (OSError, ValueError):  # no TLS, no listener, or no such host
        pass
    if distrust is None:
        with suppress(OSError, ValueError), socket.create_connection(address, seconds) as plain:
            answer = _sasl_handshake(plain)
            return Listener(False, None, answer) if answer is not None else Listener()
        return Listener()
    with suppress(OSError, ValueError), _tls(address, seconds, ca, trusting=True) as connection:
        return Listener(True, distrust, _mechanisms(connection))
    return Listener(True, distrust)


def _tls(
    address: Address, seconds: float, ca: str | None, *, trusting: bool = False
) -> ssl.SSLSocket:
    folder = ca is not None and Path(ca).is_dir()
    context = ssl.create_default_context(
        cafile=None if folder else ca, capath=ca if folder else None
    )
    if trusting:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(address, seconds)
    try:
        return context.wrap_socket(plain, server_hostname=address[0])
    except BaseException:
        plain.close()
        raise


def _mechanisms(connection: socket.socket) -> tuple[str, ...]:
    with suppress(OSError, ValueError):
        return _sasl_handshake(connection) or ()
    return ()


def _sasl_handshake(connection: socket.socket) -> tuple[str, ...] | None:
    """Request a SASL mechanism that does not exist.

    A listener that requires SASL answers with its mechanisms, another Kafka listener with none.
    None: it is not a Kafka listener.
    """
    client, mechanism = b"iot", b"?"
    request = struct.pack(">hhih", _SASL_HANDSHAKE, _VERSION, 1, len(client)) + client
    request += struct.pack(">h", len(mechanism)) + mechanism
    connection.sendall(struct.pack(">i", len(request)) + request)
    (size,) = struct.unpack(">i", _read(connection, 4))
    if not 10 <= size <= _LONGEST:
        return None
    answer = _read(connection, size)
    number, _, count = struct.unpack_from(">ihi", answer)
    if number != 1:
        return None
    mechanisms, at = [], 10
    for _ in range(max(0, count)):
        (length,) = struct.unpack_from(">h", answer, at)
        mechanisms.append(answer[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return tuple(mechanisms)


def _read(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionResetError("closed by the other side")
        received += piece
    return received
