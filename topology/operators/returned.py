"""Checks of the results of users' functions, and the errors of wrong results.

Owns the check of a result that an operator cannot use, and its message: the operator, the result,
and what the function must return. An operator checks only the class of a result, and calls this
module for any other than the usual class.

It must not know operators, only their names.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable, Mapping
from collections.abc import Set as AbstractSet
from inspect import isfunction, ismethod
from itertools import chain
from types import GeneratorType
from typing import Any, Final

from thalweg.stores.callables import shown
from thalweg.stores.record import Record
from thalweg.topology.processor import FixedKeyRecord

ITERABLES: Final = frozenset(
    (list, tuple, set, frozenset, GeneratorType, map, filter, zip, range, chain, enumerate)
)
"""Classes of results that are several values without a doubt."""

_ONE_VALUE: Final = (str, bytes, bytearray, memoryview)
_UNFINISHED: Final = (Awaitable, AsyncIterable)


def wrong_return(what: str, returned: object, wanted: str) -> TypeError:
    """Returns the error about a function that returned what its operator cannot take.

    Args:
        what: the function, such as "the function of map()".
        returned: what it returned.
        wanted: what it must return.
    """
    if isinstance(returned, _UNFINISHED):
        wanted += ", and not be async"
    return TypeError(f"{what} returned {shown(returned)}; it must return {wanted}")


def truth_of(operator: str) -> Callable[[object], bool]:
    """Returns the function that tells whether what a predicate returned means yes.

    It takes whatever Python takes for true or false, but for None, which a function without a
    `return` returns, and for what is true whatever it holds.
    """

    def truth(kept: object) -> bool:
        if kept is True or kept is False:
            return kept
        if (
            kept is None
            or isinstance(kept, (*_UNFINISHED, Generator))
            or isfunction(kept)
            or ismethod(kept)
        ):
            raise wrong_return(f"the predicate of {operator}()", kept, "True or False")
        return bool(kept)

    return truth


def pair_of(operator: str, returned: Any, *, is_one_of_many: bool = False) -> tuple[Any, Any]:
    """Returns a pair that was returned as something else than a tuple of two.

    Args:
        operator: what called the function.
        returned: what it returned.
        is_one_of_many: whether it is one of the pairs that were returned.

    Raises:
        TypeError: it is none.
    """
    is_sequence = isinstance(returned, Iterable) and not isinstance(
        returned, (*_ONE_VALUE, Mapping, AbstractSet)
    )
    pair = tuple(returned) if is_sequence else ()
    if len(pair) != 2:
        if is_one_of_many:
            message = (
                f"the function of {operator}() returned, among others, {shown(returned)}; each "
                "must be a pair, a tuple of two"
            )
            raise TypeError(message)
        raise wrong_return(f"the function of {operator}()", returned, "a pair, a tuple of two")
    return pair


def iterable_of(operator: str, returned: Any, wanted: str) -> Iterable[Any]:
    """Returns what a function returned if it is several values.

    Raises:
        TypeError: it is one value or none.
    """
    if isinstance(returned, _ONE_VALUE) or not _is_iterable(returned):
        what = f"the function of {operator}()"
        raise wrong_return(what, returned, f"an iterable of {wanted}, such as a list, or []")
    several: Iterable[Any] = returned
    return several


def _is_iterable(value: Any) -> bool:
    try:
        iter(value)
    except TypeError:
        return False
    return True


def refuse_result(what: str, returned: object) -> None:
    """Refuses a result that its user means to be a record, where results are not looked at.

    Raises:
        TypeError: it is a record, several of them, or was never run to its end.
    """
    if isinstance(returned, (Record, FixedKeyRecord, Generator, list, tuple, *_UNFINISHED)):
        raise wrong_return(
            what, returned, "nothing: records are sent on by self.context.forward(record)"
        )
