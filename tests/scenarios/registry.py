"""Which function builds which topology of a scenario.

Owns the table of builders and the names of serdes in the data. A builder is handed a
`StreamsBuilder` and what the data gives as `args`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thalweg.stores.foreign_keys import decode_response, primary_key_of
from thalweg.stores.murmur3 import murmur3_128
from thalweg.stores.serde import Serde, serdes

_INSTRUCTIONS = ("forget", "forget and tell", "tell", "tell if found")


def _registration(data: bytes) -> str:
    whose = "" if data[0] & 0x80 == 0 else " deleted"
    return f"{_INSTRUCTIONS[data[1]]}: {primary_key_of(data).decode()}{whose}"


def _unwritable(_text: str) -> bytes:
    raise ValueError("registrations are read only")


def _response(text: str) -> bytes:
    left, right = text.split(" -> ")
    head = b"\x80" if left == "null" else b"\x00" + murmur3_128(left.encode())
    return head + (b"" if right == "null" else right.encode())


def _right_value(data: bytes) -> str:
    right = decode_response(data)[1]
    return f"-> {'null' if right is None else right.decode()}"


TOPOLOGIES: dict[str, Callable[..., None]] = {}

SERDES: dict[str, Serde[Any]] = {
    "string": serdes.string,
    "int32": serdes.int32,
    "int64": serdes.int64,
    "float64": serdes.float64,
    "bytes": serdes.bytes,
    "json": serdes.json,
    "registration": Serde.of(_unwritable, _registration, name="registration"),
    "response": Serde.of(_response, _right_value, name="response"),
}


def topology(describe: Callable[..., None]) -> Callable[..., None]:
    """Registers a builder under its function's name."""
    name = describe.__name__
    if name in TOPOLOGIES:
        raise ValueError(f"there are two scenario topologies {name}")
    TOPOLOGIES[name] = describe
    return describe


def plus(separator: str = "+") -> Callable[[object, object], Any]:
    """Returns a joiner: the texts of two values, a missing one as `null`; `sum` adds numbers."""

    def text(value: object) -> str:
        return "null" if value is None else str(value)

    def join(left: Any, right: Any) -> Any:
        if separator == "sum":
            return str(left + right)
        return f"{text(left)}{separator}{text(right)}"

    return join
