"""What a device may send by mistake, and what the edge answers: the table in docs/mistakes.md.

Each row is a request that goes to a running edge as it stands. `{device}` and `{sensor}` stand
for known uuids, `{now}` for the present in epoch seconds.
"""

import gzip
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mistake:
    """One row."""

    what: str
    """What the device does."""
    body: str | bytes
    status: int
    says: str
    """A part of the answer's `detail`, or, where it was accepted, of its `warnings`; empty: there
    is no warning, and nothing was wrong.
    """
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/ingest/packets"
    method: str = "POST"
    packed: bool = False
    """Whether the body is sent as gzip."""


def packet(reading='"sensor_uuid": "{sensor}", "value": 1.5', more=""):
    return f'{{"device_uuid": "{{device}}", {more}"readings": [{{{reading}}}]}}'


def value(text):
    return packet(f'"sensor_uuid": "{{sensor}}", "value": {text}')


def time(text, name="ts"):
    return packet(f'"sensor_uuid": "{{sensor}}", "value": 1.5, "{name}": {text}')


GOOD = packet()
MANY = "}, {".join(['"sensor_uuid": "{sensor}", "value": 1.5'] * 1001)
OTHER = '{"sensor_uuid": "{other}", "value": 1.5}'
READING = '{"sensor_uuid": "{sensor}", "value": 1.5}'

TABLE = {
    "Names": [
        Mistake("`timestamp` for `ts`", time("{now}", "timestamp"), 202, ""),
        Mistake("`sensor_ts` for `ts`", time("{now}", "sensor_ts"), 202, ""),
        Mistake("`time` for `ts`", time("{now}", "time"), 202, "looks like a time was ignored"),
        Mistake("`TS` for `ts`", time("{now}", "TS"), 202, "looks like a time was ignored"),
        Mistake("`packetId` for `packet_id`", packet(more='"packetId": "7", '), 202,
                "looks like packet_id was ignored"),
        Mistake("a field of its own", packet(more='"firmware": "1.2", '), 202, ""),
        Mistake("`ts` and `timestamp` in one reading",
                packet('"sensor_uuid": "{sensor}", "value": 1, "ts": 1e9, "timestamp": 1e9'), 422,
                "readings[0].ts: timestamp is set too"),
        Mistake("`sensor_id` for `sensor_uuid`", packet('"sensor_id": "{sensor}", "value": 1.5'),
                422, "missing required field `sensor_uuid`"),
        Mistake("a single reading without `readings`",
                '{"device_uuid": "{device}", "sensor_uuid": "{sensor}", "value": 1.5}', 422,
                "missing required field `readings`"),
        Mistake("a list without an object around it", f"[{READING}]", 422,
                "Expected `object`, got `array`; send {"),
        Mistake("a name twice in an object", value('1.5, "value": 2.5'), 422, "same name twice"),
        Mistake("a uuid that is none", GOOD.replace("{sensor}", "boiler"), 422,
                "readings[0].sensor_uuid: Invalid UUID"),
        Mistake("the uuids of another device's sensors only", GOOD.replace("{sensor}", "{other}"),
                422, "the device has none of these sensors"),
        Mistake("some sensors that the device does not have",
                packet(f'"sensor_uuid": "{{sensor}}", "value": 1}}, {OTHER[:-1]}'), 202,
                "1 reading was ignored"),
        Mistake("a device that does not exist", GOOD.replace("{device}", "{other}"), 404,
                "there is no such device"),
    ],
    "Times": [
        Mistake("RFC 3339 in lower case", time('"2026-01-31t12:00:00z"'), 202, ""),
        Mistake("a leap second", time('"2016-12-31T23:59:60Z"'), 202, ""),
        Mistake("nanoseconds", time('"2026-01-31T12:00:00.123456789Z"'), 202, ""),
        Mistake("no zone (UTC is meant)", time('"2026-01-31 12:00:00"'), 202, ""),
        Mistake("a clock that starts in 1970 at each boot", time("42"), 202,
                "readings[0]: its time is before 2000-01-01"),
        Mistake("a clock that is an hour ahead", time("{ahead}"), 202,
                "more than 5 minutes ahead of the edge's clock"),
        Mistake("milliseconds", time("{now}000"), 422, "send epoch seconds, not milliseconds"),
        Mistake("microseconds", time("{now}000000"), 422, "send epoch seconds, not microseconds"),
        Mistake("epoch seconds as text", time('"{now}"'), 422,
                "write epoch seconds without quotes"),
        Mistake("another format", time('"31/01/2026 12:00"'), 422,
                "not an ISO-8601 time such as 2026-01-31T12:00:00Z"),
        Mistake("NTP's year 1900", time('"1900-01-01T00:00:09Z"'), 202,
                "its time is before 2000-01-01"),
        Mistake("`null`", time("null"), 202, ""),
        Mistake("`true`", time("true"), 422, "send epoch seconds or ISO-8601 text"),
    ],
    "Numbers": [
        Mistake("a number as text", value('"1.5"'), 422, "write numbers without quotes"),
        Mistake("`null` for a value", value("null"), 422, "omit a reading that has no value"),
        Mistake("`true` for a value", value("true"), 422, "Expected `float`, got `bool`"),
        Mistake("`NaN`", value("NaN"), 422, "NaN is not JSON; omit the reading"),
        Mistake("`nan`, as C prints it", value("-nan"), 422, "NaN is not JSON"),
        Mistake("`Infinity`", value("Infinity"), 422, "Infinity is not JSON"),
        Mistake("`-inf`, as C prints it", value("-inf"), 422, "Infinity is not JSON"),
        Mistake("more than a double holds", value("1e999"), 422, "Number out of range"),
        Mistake("more than can be stored", value("1e10"), 422, "must be between -1e10 and 1e10"),
        Mistake("a comma for decimals", value("1,5"), 422, "use a point as the decimal separator"),
        Mistake("no digit before the point", value(".5"), 422,
                "a number starts with a digit or a minus sign"),
        Mistake("a leading zero", value("01.5"), 422, "a number has no leading zeros"),
    ],
    "Encodings": [
        Mistake("an empty body", "", 422, "the body is empty"),
        Mistake("a body that is cut off", GOOD[:-2], 422, "its end is missing"),
        Mistake("a comma too many", GOOD.replace("}]", "},]"), 422, "trailing comma"),
        Mistake("single quotation marks", GOOD.replace('"', "'"), 422,
                "at byte 1: strings need double quotes"),
        Mistake("Python's `None`", value("None"), 422, "this is Python, not JSON"),
        Mistake("a comment", GOOD.replace("{", "{ // one\n", 1), 422, "JSON has no comments"),
        Mistake("a form", "device_uuid={device}&value=1.5", 422, "it is form data; send JSON"),
        Mistake("XML", "<reading value='1.5'/>", 422, "it is XML or HTML"),
        Mistake("a byte order mark", b"\xef\xbb\xbf" + GOOD.encode(), 422, "byte order mark"),
        Mistake("UTF-16", GOOD.encode("utf-16"), 422, "it is UTF-16 or UTF-32; send UTF-8"),
        Mistake("Latin-1", packet(more='"packet_id": "kühl", ').encode("latin-1"), 422,
                "it is not UTF-8"),
        Mistake("a zero byte at the end, as C strings have", GOOD + "\0", 422,
                "control character"),
        Mistake("gzip without its header", gzip.compress(GOOD.encode()), 422,
                "it is gzip; send the header Content-Encoding: gzip"),
        Mistake("gzip named `x-gzip`", GOOD, 202, "", {"Content-Encoding": "x-gzip"}, packed=True),
        Mistake("the header for gzip, and no gzip", GOOD, 422, "the body is not valid gzip",
                {"Content-Encoding": "gzip"}),
        Mistake("gzip that is cut off", gzip.compress(GOOD.encode())[:-4], 422,
                "its end is missing", {"Content-Encoding": "gzip"}),
        Mistake("deflate", GOOD, 415, "only gzip and identity are supported",
                {"Content-Encoding": "deflate"}),
        Mistake("another `Content-Type`", GOOD, 202, "", {"Content-Type": "text/plain"}),
    ],
    "Sizes and places": [
        Mistake("no readings", '{"device_uuid": "{device}", "readings": []}', 422,
                "Expected `array` of length >= 1"),
        Mistake("1001 readings", packet(MANY), 422, "length <= 1000; split the packet"),
        Mistake("more than 1 MiB", GOOD + " " * 1_048_576, 413, "larger than 1048576 bytes"),
        Mistake("more than 8 MiB once inflated", gzip.compress(b" " * 9_000_000), 413,
                "larger than 8388608 bytes once inflated", {"Content-Encoding": "gzip"}),
        Mistake("900 KB of other fields", packet(more=f'"log": "{"x" * 900_000}", '), 202, ""),
        Mistake("a packet on the legacy path", GOOD, 422,
                "missing required field `sensor_id`; send {", path="/ingest/readings"),
        Mistake("a slash at the end", GOOD, 404, "packets are posted to /ingest/packets",
                path="/ingest/packets/"),
        Mistake("`PUT`", GOOD, 405, "this path only accepts POST", method="PUT"),
    ],
}  # fmt: skip


def document() -> str:
    """The table as docs/mistakes.md has it."""
    lines = [
        "# What a device may send by mistake",
        "",
        "For people who write firmware. Each row was posted to an edge, and this is its answer:",
        "the status, and a part of its `detail`, or of its `warnings` where it was accepted.",
        "`python -m tests.pipeline.mistakes` writes this page, and",
        "`tests/pipeline/test_mistakes.py` checks each row.",
    ]
    for heading, rows in TABLE.items():
        lines += [
            "",
            f"## {heading}",
            "",
            "| the device sends | status | the answer says |",
            "|---|---|---|",
        ]
        for row in rows:
            says = row.says.replace("|", "\\|")
            lines.append(f"| {row.what} | {row.status} | {says or 'accepted, no warning'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
