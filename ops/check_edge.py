"""A test of an edge for device integrators: one good packet, and every kind of bad packet."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from json import dumps
from ssl import SSLContext
from time import time
from uuid import uuid4

import httpx

from contract.errors import UnavailableError
from contract.packet import MAX_READINGS
from ops.post import iso
from runtime.tls import check_trusted

_PATH = "/ingest/packets"
_TIMEOUT_S = 15.0
_MIB = 1_048_576


@dataclass(frozen=True, slots=True)
class Check:
    """One request, and the expected status."""

    name: str
    expected: int
    content: bytes = b""
    method: str = "POST"
    path: str = _PATH
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """The response to a check."""

    check: Check
    status: int
    detail: str
    right: bool
    """Whether the status is the expected one and the body fits it."""


def checks(device_uuid: str, sensor_uuid: str, *, keyed: bool) -> list[Check]:
    """Build all requests. The good ones are one packet sent twice, so they store one reading.

    `keyed` says whether the edge requires a key.
    """
    reading = {"sensor_uuid": sensor_uuid, "value": 20.5}
    now = iso(int(time() * 1000))

    def packet(*readings: object, **more: object) -> bytes:
        body = {"device_uuid": device_uuid, "readings": readings or [reading], "ts": now}
        return dumps(body | more).encode()

    good = packet()
    bomb = gzip.compress(b" " * 9 * _MIB)
    zipped = {"Content-Encoding": "gzip"}
    requests = [
        Check("a good packet", 202, good),
        Check("the same packet again, as gzip", 202, gzip.compress(good), headers=zipped),
        Check("not JSON", 422, b"temperature=20.5"),
        Check("truncated JSON", 422, good[:-2]),
        Check("not UTF-8", 422, good.replace(b"20.5", b'"\xff"')),
        Check("no readings", 422, dumps({"device_uuid": device_uuid, "readings": []}).encode()),
        Check(f"{MAX_READINGS + 1} readings", 422, packet(*[reading] * (MAX_READINGS + 1))),
        Check("a value that is text", 422, packet(reading | {"value": "20.5"})),
        Check("a value that is NaN", 422, packet(reading | {"value": float("nan")})),
        Check("a value too large to store", 422, packet(reading | {"value": 1e10})),
        Check("an invalid time", 422, packet(ts="yesterday")),
        Check("a time in milliseconds", 422, packet(ts=int(time() * 1000))),
        Check(
            "a duplicate name in an object", 422, good.replace(b'"value"', b'"value": 1, "value"')
        ),
        Check("an invalid sensor_uuid", 422, packet(reading | {"sensor_uuid": "pump"})),
        Check("only unknown sensors", 422, packet(reading | {"sensor_uuid": str(uuid4())})),
        Check("an unknown device", 404, packet(device_uuid=str(uuid4()))),
        Check("more than 1 MiB", 413, good + b" " * _MIB),
        Check("more than 8 MiB when decompressed", 413, bomb, headers=zipped),
        Check("truncated gzip", 422, gzip.compress(good)[:-4], headers=zipped),
        Check("another encoding", 415, good, headers={"Content-Encoding": "br"}),
        Check("another method", 405, method="GET"),
        Check("another path", 404, good, path="/ingest/packet"),
        Check("a wrong device key", 401, good, headers={"X-Device-Key": "wrong"}),
    ]
    if keyed:
        requests.append(Check("a wrong key", 401, good, headers={"X-API-Key": "wrong"}))
    return requests


def edge_requires_key(url: str, context: SSLContext) -> bool:
    """Whether the edge rejects requests without a key.

    Raises:
        UnavailableError: no edge answers at `url`.
        SettingError: the edge's certificate is not trusted.
    """
    try:
        answer = httpx.get(f"{url}/health", timeout=_TIMEOUT_S, trust_env=False, verify=context)
        return bool(answer.json()["auth"] != "open")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        check_trusted(url, error)
        raise UnavailableError(f"no edge answers at {url}: start it, or correct the URL") from error


def run_checks(
    url: str, keys: dict[str, str], wanted: list[Check], context: SSLContext
) -> Iterator[CheckOutcome]:
    """Send each request, with `keys` as headers, and check its response."""
    with httpx.Client(
        base_url=url, headers=keys, timeout=_TIMEOUT_S, trust_env=False, verify=context
    ) as client:
        for check in wanted:
            headers = {"Content-Type": "application/json"} | check.headers
            if "X-API-Key" in check.headers:  # a valid device key would be accepted instead
                client.headers.pop("X-Device-Key", None)
            try:
                answer = client.request(
                    check.method, check.path, content=check.content, headers=headers
                )
            except httpx.HTTPError as error:
                yield CheckOutcome(check, 0, f"no answer: {type(error).__name__}", right=False)
            else:
                yield _judge(check, answer)


def _judge(check: Check, answer: httpx.Response) -> CheckOutcome:
    try:
        body = answer.json()
    except ValueError:
        body = None
    kind = answer.headers.get("content-type", "")
    if not isinstance(body, dict):
        return CheckOutcome(check, answer.status_code, f"not a JSON object but {kind}", right=False)
    if answer.is_success:
        said = f"accepted {body.get('accepted')}"
        complete = body.get("accepted") == 1 and bool(body.get("packet_id"))
    else:
        said = str(body.get("detail"))
        complete = kind == "application/problem+json" and body.get("status") == answer.status_code
    # INGEST_SUCCESS_STATUS may be 200
    status = 202 if answer.is_success else answer.status_code
    right = complete and status == check.expected
    return CheckOutcome(check, answer.status_code, said, right)
