"""Explains why a body is not JSON, to the author of the firmware."""

import re

_AT = re.compile(r"\(byte (\d+)\)")
_WHOLE = (
    (re.compile(rb"\s*\Z"), "the body is empty"),
    (re.compile(rb"\xef\xbb\xbf"), "it begins with a byte order mark; send UTF-8 without one"),
    (re.compile(rb"\xff\xfe|\xfe\xff|.?\0", re.DOTALL), "it is UTF-16 or UTF-32; send UTF-8"),
    (re.compile(rb"\x1f\x8b"), "it is gzip; send the header Content-Encoding: gzip"),
    (re.compile(rb"\s*<"), "it is XML or HTML"),
    (re.compile(rb"[\w.%+-]+="), "it is form data; send JSON"),
)
_HERE = (
    (re.compile(rb"-?nan\b", re.IGNORECASE), "NaN is not JSON; omit the reading"),
    (
        re.compile(rb"[-+]?inf(inity)?\b", re.IGNORECASE),
        "Infinity is not JSON; omit the reading",
    ),
    (re.compile(rb"None|True|False"), "this is Python, not JSON; send null, true or false"),
    (re.compile(rb"'"), "strings need double quotes"),
    (re.compile(rb"//|/\*|#"), "JSON has no comments"),
    (re.compile(rb"[+.]\d"), "a number starts with a digit or a minus sign"),
    (re.compile(rb"\d,\d"), "use a point as the decimal separator"),
    (re.compile(rb"0\d"), "a number has no leading zeros"),
    (re.compile(rb"[\x00-\x1f]"), "strings cannot contain control characters; escape them"),
)


def fault(content: bytes, error: Exception) -> str:
    """Where and why `content` is not JSON. `error` is the parser's.

    >>> import msgspec
    >>> try: msgspec.json.decode(b'{"value": NaN}')
    ... except msgspec.DecodeError as error: fault(b'{"value": NaN}', error)
    'the body is not valid JSON at byte 10: NaN is not JSON; omit the reading'
    """
    for pattern, words in _WHOLE:
        if pattern.match(content):
            return words if words.startswith("the body") else f"the body is not valid JSON: {words}"
    said = str(error)
    if isinstance(error, UnicodeDecodeError) or "utf-8" in said.lower():
        return f"the body is not valid JSON at byte {_not_utf8_at(content)}: it is not UTF-8"
    if isinstance(error, RecursionError):
        return "the body is not valid JSON: it is nested too deeply"
    if "truncated" in said:
        return f"the body is not valid JSON at byte {len(content)}: its end is missing"
    place = _AT.search(said)
    if place is None:
        return "the body is not valid JSON"
    at = int(place[1])
    words = _words_at(content, at) or said.removeprefix("JSON is malformed: ")[: -len(place[0]) - 1]
    return f"the body is not valid JSON at byte {at}: {words}"


def _words_at(content: bytes, at: int) -> str:
    # the parser stops after the sign of -Infinity, the zero of 01, and the comma of 1,5
    for start in range(at, max(0, at - 2) - 1, -1):
        for pattern, words in _HERE:
            if pattern.match(content, start):
                return words
    return ""


def _not_utf8_at(content: bytes) -> int:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0
