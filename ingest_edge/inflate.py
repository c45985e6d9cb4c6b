"""Inflates gzip, up to a limit."""

import zlib

from contract.errors import PacketError

_GZIP = 31
"""zlib's number for a gzip header and the longest window."""


def inflated(packed: bytes, most: int) -> bytes | None:
    """The content of `packed`, or None if it is larger than `most` bytes; inflating stops there.

    Raises:
        PacketError: 422, `packed` is not a single, complete gzip member.
    """
    inflater = zlib.decompressobj(_GZIP)
    try:
        plain = inflater.decompress(packed, most + 1)
    except zlib.error as error:
        raise PacketError("the body is not valid gzip") from error
    if len(plain) > most:
        return None
    if not inflater.eof:
        raise PacketError("the body is not valid gzip: its end is missing")
    if inflater.unused_data:
        raise PacketError("there is data after the end of the gzip stream; send a single member")
    return plain
