"""Checks of users' functions: whether they can be called as the operators will call them.

Owns three checks of a user's function, made once, when the function is passed: whether a plain call
runs it (calling a coroutine function only makes a coroutine), with how many arguments it can be
called, and how a value is shown in a message about it. It must not know who calls the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

_SHOWN_CHARACTERS: Final = 60


def shown(value: object) -> str:
    """Returns a short text of a value and its type, such as "'ab' (str)"; for messages."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    try:
        text = repr(value)
    except Exception:  # whatever a repr of the user's raises
        text = f"a {type(value).__qualname__}"
    if len(text) > _SHOWN_CHARACTERS:
        text = text[: _SHOWN_CHARACTERS - 1] + "…"
    return f"{text} ({type(value).__qualname__})"


def name_of(fn: object) -> str:
    """Returns what messages call a function."""
    while isinstance(fn, partial):
        fn = fn.func
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str):
        return type(fn).__qualname__
    return "the lambda" if name == "<lambda>" else name


def is_async(fn: object) -> bool:
    """Tells whether a call only makes a coroutine or an asynchronous generator.

    It looks through `functools.partial`, bound methods, and objects that are called by an
    `async def __call__`.
    """
    while isinstance(fn, partial):
        fn = fn.func
    if _is_async_function(fn):
        return True
    return not isinstance(fn, type) and _is_async_function(getattr(type(fn), "__call__", None))  # noqa: B004 - the method itself is looked at


def _is_async_function(fn: object) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn)


def refuse_async(fn: object, who: str) -> None:
    """Refuses what a plain call does not run.

    Args:
        fn: the function.
        who: who calls it, at the beginning of the message.

    Raises:
        TypeError: it is a coroutine function or an asynchronous generator.
    """
    if is_async(fn):
        message = (
            f"{who} needs a plain function, got {name_of(fn)}, which is async: it would be called "
            "and never awaited; use def instead of async def"
        )
        raise TypeError(message)


def arity(fn: Callable[..., Any], options: Mapping[int, str], who: str) -> int:
    """Tells with how many arguments to call a function.

    The function's required positional parameters decide. One without a signature (some
    builtins) is called with the fewest arguments there are.

    Args:
        fn: the function.
        options: numbers of arguments it may be called with, each with their names.
        who: who calls it, at the beginning of messages.

    Raises:
        TypeError: it is not callable, is async, or takes none of the numbers of arguments.
    """
    wanted = " or ".join(f"({names})" if names else "no arguments" for names in options.values())
    if not callable(fn):
        message = f"{who} needs a function, got {shown(fn)}; give a function of {wanted}"
        raise TypeError(message)
    refuse_async(fn, who)
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (ValueError, TypeError):
        return min(options)
    positional = [
        one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    named = [
        one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty
    ]
    if named:
        message = (
            f"{who} needs a function of {wanted}; {name_of(fn)} also needs {', '.join(named)} by "
            "name: bind it with functools.partial"
        )
        raise TypeError(message)
    required = sum(one.default is one.empty for one in positional)
    has_more = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    for count in sorted(options):
        if required <= count and (has_more or count <= len(positional)):
            return count
    taken = _counted(required, len(positional), has_more)
    message = f"{who} needs a function of {wanted}; {name_of(fn)} takes {taken}"
    raise TypeError(message)


def _counted(least: int, most: int, has_more: bool) -> str:
    """Returns a number of arguments as text, singular or plural."""
    if has_more:
        return f"at least {least} argument{'' if least == 1 else 's'}"
    if least != most:
        return f"{least} to {most} arguments"
    return f"{least or 'no'} argument{'' if least == 1 else 's'}"
