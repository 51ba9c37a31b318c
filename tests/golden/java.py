"""What the user functions of the golden cases do in Java.

Owns the few places where a plain Python expression would differ: text of null, strings as
UTF-16 units, `String.split`, 64-bit overflow, the remainder of negative numbers. It knows
nothing of topologies.

Source: `Topologies.java` of the golden cases; java.lang.String, Long.
"""

from __future__ import annotations

_LONG = 1 << 64
_LONG_SIGN = 1 << 63


def text(value: object) -> str:
    """Returns what a string or number becomes when concatenated to a string."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float) and 1e-3 <= abs(value) < 1e7:
        return repr(value)
    raise TypeError(f"the text of {value!r} in Java is not known here")


def plus(*parts: object) -> str:
    """Concatenates as Java's `+` does with a string among its operands."""
    return "".join(map(text, parts))


def cat(left: object, right: object) -> str:
    """Joins two values as the golden cases do."""
    return f"{text(left)}|{text(right)}"


def units(value: str) -> list[str]:
    """Returns the chars of a string; half a surrogate pair is encoded as "?"."""
    return [unit for char in value for unit in (char if ord(char) < 0x10000 else "??")]


def length(value: str) -> int:
    """Returns the number of chars of a string."""
    return len(units(value))


def first(value: str | None) -> str:
    """Returns the first char of a string, "" if there is none."""
    return units(value)[0] if value else ""


def split(value: str, separator: str) -> list[str]:
    """Splits without the empty strings at the end; "" alone stays."""
    if not value:
        return [""]
    parts = value.split(separator)
    while parts and not parts[-1]:
        parts.pop()
    return parts


def as_long(value: int) -> int:
    """Wraps a number to 64 bits."""
    return (value + _LONG_SIGN) % _LONG - _LONG_SIGN


def long_sum(left: int, right: int) -> int:
    """Adds as `Long::sum`."""
    return as_long(left + right)


def long_difference(left: int, right: int) -> int:
    """Subtracts as Java's `-` does."""
    return as_long(left - right)


def remainder(value: int, divisor: int) -> int:
    """Returns Java's `%`: it has the sign of `value`."""
    rest = abs(value) % divisor
    return -rest if value < 0 else rest


def parity(value: int) -> str:
    """Returns "even" or "odd"."""
    return "even" if value % 2 == 0 else "odd"


def fk(value: str) -> str | None:
    """Returns the foreign key in front of a colon, None for "-"."""
    return None if value.startswith("-") else split(value, ":")[0]
