"""The OpenAPI document of the endpoints of `Ingest`, which FastAPI cannot derive by itself."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ingest_edge.ingest import BULK, PACKETS, READINGS, LegacyAnswer, PacketAnswer
from ingest_edge.requests import LegacyBody, LegacyReading, PacketBody
from runtime.problems import CONTENT_TYPE, ProblemBody

_PROBLEMS = {
    400: "The connection closed before the body was complete.",
    401: "A key is missing, wrong, expired or revoked.",
    403: "The device key belongs to another device.",
    404: "There is no such device.",
    408: "The body took too long.",
    413: "The body is larger than 1 MiB, or larger than 8 MiB once inflated.",
    415: "The body's encoding is neither gzip nor identity.",
    422: "The body is not a valid packet, or the device has none of its sensors.",
    429: "The device sends too often; retry after `Retry-After` seconds.",
    500: "An internal error of this service.",
    503: "The packet cannot be stored now; retry after `Retry-After` seconds.",
}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
_HEADERS = [
    {"in": "header", "name": name, "description": text, "schema": {"type": "string"} | more}
    for name, text, more in (
        ("Content-Encoding", "The encoding of the body.", {"enum": ["identity", "gzip"]}),
        ("X-Request-Id", "Returned and logged, if it is 1 to 64 of A-Z a-z 0-9 . _ : -", {}),
        ("traceparent", "W3C trace context; copied to a header of the Kafka record.", {}),
    )
]
_SENSOR = "00000000-0000-0000-0000-000000000101"
_DOORS = (
    (
        PACKETS,
        "Store one packet of one device, completely or not at all",
        PacketBody,
        202,
        PacketAnswer,
        {
            "device_uuid": "00000000-0000-0000-0000-000000000001",
            "ts": "2026-01-01T12:00:00Z",
            "readings": [{"sensor_uuid": _SENSOR, "value": 23.5}],
        },
    ),
    (
        READINGS,
        "Store one reading by sensor_id (legacy)",
        LegacyReading,
        200,
        LegacyAnswer,
        {"sensor_id": 1, "value": 23.5},
    ),
    (
        BULK,
        "Store readings by sensor_id (legacy)",
        LegacyBody,
        200,
        LegacyAnswer,
        {"readings": [{"sensor_id": 1, "value": 23.5}]},
    ),
)


def document(app: FastAPI) -> dict[str, Any]:
    """The document: FastAPI's own routes and the three ingest endpoints."""
    made = get_openapi(title=app.title, version=app.version, routes=app.routes)
    types = (PacketBody, LegacyReading, LegacyBody, PacketAnswer, LegacyAnswer, ProblemBody)
    template = "#/components/schemas/{name}"
    (*references, problem), schemas = msgspec.json.schema_components(types, ref_template=template)
    by_type = dict(zip(types, references, strict=False))
    made["components"] = {
        "schemas": schemas,
        "responses": {
            str(status): {
                "description": text,
                "content": {CONTENT_TYPE: {"schema": problem}},
                **({"headers": _RETRY_AFTER} if status in (429, 503) else {}),
            }
            for status, text in _PROBLEMS.items()
        },
        "securitySchemes": {
            "api-key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "device-key": {"type": "apiKey", "in": "header", "name": "X-Device-Key"},
        },
    }
    for path, summary, body, status, answer, example in _DOORS:
        content = {"schema": by_type[body], "example": example}
        made["paths"][path] = {
            "post": {
                "summary": summary,
                "parameters": _HEADERS,
                "requestBody": {"required": True, "content": {"application/json": content}},
                "security": [{}, {"api-key": []}, {"device-key": []}],
                "responses": {
                    str(status): {
                        "description": "Acknowledged by all in-sync replicas of Kafka.",
                        "content": {"application/json": {"schema": by_type[answer]}},
                    },
                    **{str(code): {"$ref": f"#/components/responses/{code}"} for code in _PROBLEMS},
                },
            }
        }
    not_ready = made["paths"]["/health/ready"]["get"]["responses"]
    not_ready["503"] = {"$ref": "#/components/responses/503"}
    return made
