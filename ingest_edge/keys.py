"""Authentication: the shared key of the edge, and the keys of single devices."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from time import monotonic, time

from pydantic import SecretStr

from contract.errors import IotError, PacketError
from ingest_edge.directory import UNKNOWN_TTL_S
from ingest_edge.lookups import Lookups
from sql.database import Database
from sql.statements import LIST_DEVICE_KEYS


@dataclass(frozen=True, slots=True)
class _DeviceKey:
    digest: str
    device_uuid: str
    expires_at: float | None
    """Epoch seconds."""


class Keys:
    """Checks `X-API-Key` against `INGEST_API_KEY` and `X-Device-Key` against `device_api_keys`.

    Only SHA-256 digests are kept, and they are compared in constant time. All device keys are read
    together: after `ttl_s` seconds, and for an unknown key, but at most once in 2 s. A revoked key
    stops working within `ttl_s` seconds, a new key works within 2 s.
    """

    def __init__(self, lookups: Lookups, api_key: SecretStr | None, ttl_s: float) -> None:
        self._lookups = lookups
        self._api_key = None if api_key is None else _digest(api_key.get_secret_value().encode())
        self._ttl_s = ttl_s
        self._devices: dict[str, list[_DeviceKey]] = {}
        self._read_at: float | None = None

    async def check(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The uuid of the device that the request is bound to, or None if it may be any device.

        Raises:
            PacketError: 401, a key is missing or wrong.
            UnavailableError: the device key is not cached, and the database is unavailable.
        """
        device_key = headers.get(b"x-device-key")
        if device_key is not None:
            device_uuid = await self._device(_digest(device_key))
            if device_uuid is None:
                raise PacketError("X-Device-Key: wrong, expired or revoked", 401)
            return device_uuid
        if self._api_key is not None:
            given = headers.get(b"x-api-key")
            if given is None or not compare_digest(_digest(given), self._api_key):
                raise PacketError("X-API-Key: missing or wrong", 401)
        return None

    async def _device(self, digest: str) -> str | None:
        key = self._find(digest)
        age = None if self._read_at is None else monotonic() - self._read_at
        if age is None or age >= (UNKNOWN_TTL_S if key is None else self._ttl_s):
            try:
                await self._read()
            except IotError:
                if key is None:
                    raise
            key = self._find(digest)
        if key is None or (key.expires_at is not None and key.expires_at <= time()):
            return None
        return key.device_uuid

    def _find(self, digest: str) -> _DeviceKey | None:
        for key in self._devices.get(digest[:8], ()):
            if compare_digest(key.digest, digest):
                return key
        return None

    async def _read(self) -> None:
        asked_at = monotonic()
        keys = await self._lookups.ask("device keys", _ask_keys)
        devices: dict[str, list[_DeviceKey]] = {}
        for key in keys:
            devices.setdefault(key.digest[:8], []).append(key)
        self._devices, self._read_at = devices, asked_at


def _digest(key: bytes) -> str:
    return sha256(key).hexdigest()


def _ask_keys(database: Database) -> list[_DeviceKey]:
    return [
        _DeviceKey(
            key.api_key_hash.lower(),
            str(key.device_uuid).lower(),
            None if key.expires_at is None else float(key.expires_at),
        )
        for key in database.query(LIST_DEVICE_KEYS)
    ]
