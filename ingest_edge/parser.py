"""Inflates and parses request bodies.

Large bodies are handled by another process, `python -m ingest_edge.parser`. The JSON parser holds
the interpreter's lock, so in a thread it would block every other request, and 8 MiB take up to a
second. The process reads one body after another from standard input, and exits when it closes.
"""

import asyncio
import signal
import sys
from typing import Any

import msgspec
import structlog

from contract.errors import PacketError, UnavailableError
from ingest_edge.inflate import inflated
from ingest_edge.requests import Body, LegacyBody, LegacyReading, PacketBody, parse

SMALL = 32_768
"""Largest body that is parsed in the event loop, in bytes; takes 3 ms at worst."""
MAX_INFLATED = 8 * 1_048_576
"""Largest body after inflating, in bytes."""
_WAITING = 32
"""Limit on waiting large bodies; more would only wait longer."""
_ANSWER_S = 10.0
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (PacketBody, LegacyReading, LegacyBody)}
_GZIP = (b"gzip", b"x-gzip")
_log = structlog.get_logger("edge")


class _Question(msgspec.Struct, array_like=True):
    kind: str
    is_gzip: bool
    body: bytes


class _Answer(msgspec.Struct, array_like=True):
    body: msgspec.Raw
    """The parsed body; nil if it was refused."""
    warnings: list[str]
    refused: tuple[str, int] | None = None
    """Text and status."""


class Parser:
    """Parses small bodies in place, and sends large ones to its process, one at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def open(self) -> None:
        """Start the process, so that no request has to wait for it."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __spec__.name,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def close(self) -> None:
        """Kill the process, even if it is busy."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        if process.returncode is None:
            process.kill()
        process.stdin.close()
        await process.stdout.read()
        await process.wait()

    async def parse(self, body: bytes, encoding: bytes, kind: type[Body]) -> tuple[Body, list[str]]:
        """The body and its warnings, as `requests.parse` returns them. `encoding` is the value of
        the Content-Encoding header.

        Raises:
            PacketError: 413, the body is larger than 8 MiB once inflated; 415, the encoding is
                neither gzip nor identity; 422, the body is not valid gzip, or not of this kind.
            UnavailableError: too many large bodies are waiting, or the process died or took too
                long.
        """
        is_gzip = encoding.lower() in _GZIP
        if not is_gzip and encoding.lower() != b"identity":
            raise PacketError("Content-Encoding: only gzip and identity are supported", 415)
        small = inflated(body, SMALL) if is_gzip else body
        if small is not None and len(small) <= SMALL:
            return parse(small, kind)
        return await self._parse_large(body, kind, is_gzip=is_gzip)

    async def _parse_large(
        self, body: bytes, kind: type[Body], *, is_gzip: bool
    ) -> tuple[Body, list[str]]:
        if self._waiting >= _WAITING:
            raise UnavailableError("too many large bodies are waiting to be parsed")
        self._waiting += 1
        try:
            async with self._turn:
                answer = await self._ask(_Question(kind.__name__, is_gzip, body))
        finally:
            self._waiting -= 1
        if answer.refused is not None:
            text, status = answer.refused
            raise PacketError(text, status)
        return msgspec.msgpack.decode(answer.body, type=kind), answer.warnings

    async def _ask(self, question: _Question) -> _Answer:
        if self._process is None or self._process.returncode is not None:
            await self.close()
            await self.open()
        assert self._process is not None
        to, answers = self._process.stdin, self._process.stdout
        assert to is not None
        assert answers is not None
        whole = False
        try:
            async with asyncio.timeout(_ANSWER_S):
                content = msgspec.msgpack.encode(question)
                to.write(len(content).to_bytes(4))
                to.write(content)
                await to.drain()
                size = int.from_bytes(await answers.readexactly(4))
                answer = msgspec.msgpack.decode(await answers.readexactly(size), type=_Answer)
            whole = True
        except (OSError, EOFError, TimeoutError) as error:
            _log.warning("large body not parsed", error=type(error).__name__)
            raise UnavailableError("the process that parses large bodies did not answer") from error
        finally:
            if not whole:  # its late answer would be taken for the next one
                await self.close()
        return answer


def _answer(question: _Question) -> _Answer:
    nil = msgspec.Raw(msgspec.msgpack.encode(None))
    try:
        body, warnings = parse(_plain(question), _KINDS[question.kind])
    except PacketError as error:
        return _Answer(nil, [], (str(error), error.status))
    return _Answer(msgspec.Raw(msgspec.msgpack.encode(body)), warnings)


def _plain(question: _Question) -> bytes:
    plain = inflated(question.body, MAX_INFLATED) if question.is_gzip else question.body
    if plain is None:
        raise PacketError(f"the body is larger than {MAX_INFLATED} bytes once inflated", 413)
    return plain


def main() -> None:
    """Answer requests until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the edge stops this process when it is done
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(size := questions.read(4)) == 4:
        content = questions.read(int.from_bytes(size))
        answer = msgspec.msgpack.encode(_answer(msgspec.msgpack.decode(content, type=_Question)))
        answers.write(len(answer).to_bytes(4) + answer)
        answers.flush()


if __name__ == "__main__":
    main()
