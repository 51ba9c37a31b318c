"""The byte layouts of a foreign-key join: registrations, responses, and keys of subscriptions.

Owns the layouts and nothing else. A left row registers at the right row that its foreign key
names; the right side keeps the registration as a subscription and answers it with responses. All
integers are big endian; `‖` means "followed by"::

    registration        head(1) ‖ instruction(1) ‖ [hash(16)] ‖ primary key ‖ [partition(4)]
    response            head(1) ‖ [hash(16)] ‖ right value, nothing where there is no right row
    subscription key    length of the foreign key(4) ‖ foreign key ‖ primary key

The head is the version. Its highest bit says that there is no hash: the left row was deleted. A
registration of version 0 has no partition. The partition is that of the left row, to which
responses go.

Source: JVM `SubscriptionWrapperSerde`, `SubscriptionResponseWrapperSerde`, `CombinedKeySchema`;
kafka-streams A14.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from thalweg.stores.errors import DeserializationError

FORGET: Final = 0
"""Instruction: delete the subscription and send nothing."""
FORGET_AND_TELL: Final = 1
"""Instruction: delete the subscription and respond without a right value."""
TELL: Final = 2
"""Instruction: keep the subscription and respond, also where there is no right row."""
TELL_IF_FOUND: Final = 3
"""Instruction: keep the subscription and respond if there is a right row."""

_HASH_END: Final = 18
_NO_HASH: Final = 0x80
_LATEST_REGISTRATION: Final = 1
_PARTITION_BYTES: Final = 4
_SURE_BYTES: Final = _HASH_END + _PARTITION_BYTES

_length: Final = Struct(">I")
_pack_length: Final = _length.pack
pack_partition: Final = Struct(">i").pack


def encode_registration(
    hashed: bytes | None, instruction: int, primary_key: bytes, partition: bytes | None
) -> bytes:
    """Lays out a registration.

    Args:
        hashed: the hash of the left value, None for a deleted row.
        instruction: what the right side is to do.
        primary_key: the left row's key.
        partition: the left row's partition by `pack_partition`; None for version 0, which
            readers up to 3.3 know.
    """
    version, end = (0, b"") if partition is None else (1, partition)
    if hashed is None:
        return _STARTS[version | _NO_HASH, instruction] + primary_key + end
    return _STARTS[version, instruction] + hashed + primary_key + end


_STARTS: Final = {
    (head, instruction): bytes((head, instruction))
    for head in (0, 1, _NO_HASH, _NO_HASH | 1)
    for instruction in range(TELL_IF_FOUND + 1)
}


def checked_registration(data: bytes) -> bytes:
    """Returns a registration as it is.

    Raises:
        DeserializationError: it is none, or one of a later version.
    """
    length = len(data)
    if length >= _SURE_BYTES and data[0] == _LATEST_REGISTRATION and data[1] <= TELL_IF_FOUND:
        return data
    head = data[0] if data else 0
    version = head & 0x7F
    if version > _LATEST_REGISTRATION:
        message = f"a registration of a foreign-key join has version {version}; 0 and 1 are known"
        raise DeserializationError(message)
    least = 2 if head & _NO_HASH else _HASH_END
    if length < least + version * _PARTITION_BYTES:
        message = f"a registration of a foreign-key join cannot have {length} bytes"
        raise DeserializationError(message)
    if data[1] > TELL_IF_FOUND:
        message = f"a registration of a foreign-key join has the unknown instruction {data[1]}"
        raise DeserializationError(message)
    return data


def primary_key_of(registration: bytes) -> bytes:
    """Returns the key of the left row that registers."""
    head = registration[0]
    if head == _LATEST_REGISTRATION:
        return registration[_HASH_END:-_PARTITION_BYTES]
    start = 2 if head & _NO_HASH else _HASH_END
    return registration[start:-_PARTITION_BYTES] if head & 1 else registration[start:]


def partition_of(registration: bytes) -> int | None:
    """Returns the partition that responses go to; None leaves it to the key."""
    if not registration[0] & 1:
        return None
    return int.from_bytes(registration[-_PARTITION_BYTES:], "big")


def without_partition(registration: bytes) -> bytes:
    """Returns a registration in version 0."""
    if not registration[0] & 1:
        return registration
    return bytes((registration[0] & _NO_HASH,)) + registration[1:-_PARTITION_BYTES]


def response_head(registration: bytes) -> bytes:
    """Returns the start of a response to a registration; the right value comes behind it."""
    return b"\x80" if registration[0] & _NO_HASH else b"\x00" + registration[2:_HASH_END]


def decode_response(data: bytes) -> tuple[bytes | None, bytes | None]:
    """Reads a response.

    Returns:
        The hash of the left value, and the right value; None where there is none.

    Raises:
        DeserializationError: it is none, or one of a later version.
    """
    head = data[0] if data else 0
    if head & 0x7F:
        message = f"a response of a foreign-key join has version {head & 0x7F}; only 0 is known"
        raise DeserializationError(message)
    if head:
        return None, data[1:] or None
    if len(data) < _HASH_END - 1:
        message = f"a response of a foreign-key join cannot have {len(data)} bytes"
        raise DeserializationError(message)
    return data[1 : _HASH_END - 1], data[_HASH_END - 1 :] or None


def subscriptions_prefix(foreign_key: bytes) -> bytes:
    """Returns what the keys of all subscriptions of a foreign key begin with."""
    return _pack_length(len(foreign_key)) + foreign_key
