"""The serdes of the two topics of a foreign-key join, and how its operators write keys and values.

Owns the serdes of these topics. A registration is bytes. A response is sent as (partition, bytes)
and received as (hash, bytes of the right value). The layouts are in `stores.foreign_keys`. The
operators encode and decode the keys and values inside.

Source: JVM `SubscriptionWrapperSerde`, `SubscriptionResponseWrapperSerde`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, TypeAlias

from thalweg.stores.foreign_keys import checked_registration, decode_response
from thalweg.stores.serde import Serde

Sent: TypeAlias = tuple[int | None, bytes]
"""A response on its way out: the partition, None where the key decides, and the bytes."""
Received: TypeAlias = tuple[bytes | None, bytes | None]
"""A response that has come: the hash of the left value, and the bytes of the right one."""


class RegistrationSerde(Serde[bytes]):
    """Registrations as their bytes, checked when they are read."""

    immutable = True

    @property
    def name(self) -> str:
        """What messages call it."""
        return "registration"

    def serializer(self, topic: str) -> Callable[[bytes], bytes]:
        """Returns the function that gives the bytes."""
        return bytes

    def bare_serializer(self, topic: str) -> Callable[[bytes], bytes]:
        """Returns the function that gives the bytes."""
        return bytes

    def deserializer(self, topic: str) -> Callable[[bytes], bytes]:
        """Returns the check."""
        return checked_registration


class ResponseSerde(Serde[Any]):
    """Responses: `Sent` when they are written, `Received` when they are read."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return "response"

    def serializer(self, topic: str) -> Callable[[Sent], bytes]:
        """Returns the function that gives the bytes."""
        return itemgetter(1)

    def bare_serializer(self, topic: str) -> Callable[[Sent], bytes]:
        """Returns the function that gives the bytes."""
        return itemgetter(1)

    def deserializer(self, topic: str) -> Callable[[bytes], Received]:
        """Returns the function that reads hash and right value."""
        return decode_response


def clear_fault(error: Exception, *written: tuple[Serde[Any], str, object]) -> Exception:
    """Returns the error of the serde that cannot write a value; `error` where all can.

    The fastest functions of serdes raise anything.

    Args:
        error: what was raised.
        written: serde, topic and value of all that may have been written. None is not.
    """
    for serde, topic, value in written:
        if value is not None:
            try:
                serde.serializer(topic)(value)
            except Exception as clear:
                clear.__cause__ = clear.__cause__ or error
                return clear
    return error
