"""Which function builds which topology of a scenario.

Owns the table of builders and the names of serdes in the data. A builder is handed a
`StreamsBuilder` and what the data gives as `args`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thalweg.stores.serde import Serde, serdes

TOPOLOGIES: dict[str, Callable[..., None]] = {}

SERDES: dict[str, Serde[Any]] = {
    "string": serdes.string,
    "int32": serdes.int32,
    "int64": serdes.int64,
    "float64": serdes.float64,
    "bytes": serdes.bytes,
    "json": serdes.json,
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
