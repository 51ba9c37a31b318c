"""The bytes of a stored value with the headers of its record (KIP-1271).

Owns these layouts and nothing else; `‖` means "followed by", a varint is Kafka's zigzag varint::

    headers         nothing, or varint(count) ‖ {varint(length) ‖ name ‖ varint(length) ‖ value}
                    once for each header; a length of -1 stands for no value
    prefix          varint(length of headers) ‖ headers
    row             prefix ‖ timestamp(8) ‖ value
    session row     prefix ‖ value

Source: JVM `HeadersSerializer`, `ValueTimestampHeadersSerializer`,
`AggregationWithHeadersSerializer`; kafka-4.4 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from thalweg.stores.errors import DeserializationError
from thalweg.stores.formats import TIMESTAMP_BYTES, pack_int64
from thalweg.stores.record import HeaderList

NO_HEADERS: Final = b"\x00"
"""The prefix of a value without headers."""

_MOST_VARINT_BYTES: Final = 5


def encode_prefix(headers: Sequence[tuple[str, bytes | None]] | None) -> bytes:
    """Lays out what stands in front of a value: the length of its headers, and these."""
    if not headers:
        return NO_HEADERS
    parts = [_varint(len(headers))]
    for name, value in headers:
        raw_name = name.encode()
        parts += (_varint(len(raw_name)), raw_name)
        parts += (_varint(-1),) if value is None else (_varint(len(value)), value)
    laid_out = b"".join(parts)
    return _varint(len(laid_out)) + laid_out


def timed_prefix(headers: Sequence[tuple[str, bytes | None]] | None, timestamp: int) -> bytes:
    """Lays out what stands in front of a value with timestamp."""
    return encode_prefix(headers) + pack_int64(timestamp)


def prefix_length(row: bytes) -> int:
    """Returns how many bytes of a row come before its timestamp or, in sessions, its value.

    Raises:
        DeserializationError: the row is no row with headers.
    """
    length, start = _read_varint(row, 0)
    end = start + length
    if length < 0 or end > len(row):
        raise _wrong(row)
    return end


def split_row(row: bytes) -> tuple[bytes, bytes]:
    """Splits a row into its prefix with the timestamp, and its value.

    Raises:
        DeserializationError: the row is no row with headers.
    """
    end = prefix_length(row) + TIMESTAMP_BYTES
    if end > len(row):
        raise _wrong(row)
    return row[:end], row[end:]


def decode_headers(prefix: bytes) -> HeaderList:
    """Reads the headers at the beginning of a row.

    Raises:
        DeserializationError: the row is no row with headers.
    """
    end = prefix_length(prefix)
    length, at = _read_varint(prefix, 0)
    if not length:
        return []
    count, at = _read_varint(prefix, at)
    headers: HeaderList = []
    for _ in range(count):
        size, at = _read_varint(prefix, at)
        name, at = prefix[at : at + size].decode(errors="replace"), at + size
        size, at = _read_varint(prefix, at)
        value = None
        if size >= 0:
            value, at = prefix[at : at + size], at + size
        headers.append((name, value))
    if at != end:
        raise _wrong(prefix)
    return headers


def _varint(value: int) -> bytes:
    rest = (value << 1 ^ value >> 31) & 0xFFFFFFFF
    if rest < 0x80:
        return bytes((rest,))
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Returns the number at `start` and where it ends."""
    number = 0
    for at, byte in enumerate(data[start : start + _MOST_VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * at)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), start + at + 1
    raise _wrong(data)


def _wrong(row: bytes) -> DeserializationError:
    return DeserializationError(
        f"{len(row)} bytes are no value with headers; it was written in another layout"
    )
