"""gzip, inflated up to a bound."""

import zlib

from contract.errors import PacketError

_GZIP = 31
"""zlib's number for a gzip header and the longest window."""


def inflated(packed: bytes, most: int) -> bytes | None:
    """What `packed` holds; None if that is more than `most` bytes, of which no more are made.

    Raises:
        PacketError: 422, it is not one whole member of gzip.
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
        raise PacketError("something follows the end of the gzip: only one member is understood")
    return plain
