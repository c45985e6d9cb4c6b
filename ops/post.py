"""Post packets to an edge over HTTP, with retries."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import httpx
import stamina

from contract.errors import SetupError, UnavailableError
from contract.settings import Settings
from runtime.tls import check_trusted, client_context

_PATIENCE_S = 60.0
_START_S = 10.0
_NOT_YET = ("unknown_device", "unknown_sensor")


def _nothing() -> None:
    """Do nothing while waiting for the edge."""


class EdgeClient:
    """Posts packets. A packet with no answer, or a 429 or 503, is retried for up to a minute.

    Give each packet times or an id, so that a repeated packet is recognized as a duplicate.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        key = settings.ingest_api_key
        headers = {"X-API-Key": key.get_secret_value()} if key else {}
        self._url = url
        # no proxy from the environment: an edge is close, usually on this machine
        self._http = httpx.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=15,
            trust_env=False,
            verify=client_context(settings),
        )

    async def __aenter__(self) -> "EdgeClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ready(self) -> bool:
        """Whether an edge answers.

        Raises:
            SettingError: the edge's certificate is not trusted.
        """
        try:
            return (await self._http.get("/health", timeout=1)).status_code == 200
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            check_trusted(self._url, error)
            return False

    async def wait_ready(
        self, seconds: float = _START_S, meanwhile: Callable[[], None] = _nothing
    ) -> None:
        """Wait until an edge answers. `meanwhile` is called while waiting, and may raise.

        Raises:
            UnavailableError: no edge answered within `seconds`.
        """
        end = monotonic() + seconds
        while not await self.ready():
            meanwhile()
            if monotonic() > end:
                raise self._no_edge()
            await asyncio.sleep(0.1)

    async def post(self, packet: dict[str, Any]) -> int:
        """Post a packet, and return the number of accepted readings: all readings of the packet.

        A device or sensor that the edge does not know yet is retried too: the edge queries the
        database again after 2 s.

        Raises:
            UnavailableError: no edge answers.
            SetupError: the edge refuses the packet.
        """
        async for attempt in stamina.retry_context(
            on=UnavailableError, attempts=None, timeout=_PATIENCE_S, wait_initial=0.2, wait_max=2.0
        ):
            with attempt:
                return await self._post(packet)
        raise AssertionError("unreachable")

    async def _post(self, packet: dict[str, Any]) -> int:
        try:
            answer = await self._http.post("/ingest/packets", json=packet)
        except httpx.TransportError as error:
            raise self._no_edge() from error
        if answer.is_success:
            body = answer.json()
            if not body["unknown_sensors"]:
                return int(body["accepted"])
            raise UnavailableError(f"the edge does not know the sensors {body['unknown_sensors']}")
        problem = answer.json()
        said = f"the edge answered {answer.status_code}: {problem['detail']}"
        if answer.status_code in (429, 503) or problem["reason"] in _NOT_YET:
            raise UnavailableError(said)
        raise SetupError(said)

    def _no_edge(self) -> UnavailableError:
        return UnavailableError(
            f"no edge answers at {self._url}: start it, or give its address with --url"
        )


def iso(ms: int) -> str:
    """Epoch milliseconds as ISO-8601 in UTC.

    >>> iso(1732442400500)
    '2024-11-24T10:00:00.500+00:00'
    """
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
