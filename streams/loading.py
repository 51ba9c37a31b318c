"""Whether a script is only being loaded, so that its application must not start.

Owns this fact, which holds for the whole process. The command line or another tool runs a script
from top to bottom to find its application. Without this check, `thalweg topology` would process
records, and `thalweg reset` would start the application that it resets. It must not know who loads
or what is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from thalweg.streams.errors import AppStateError

# Not a context variable: a thread that the script starts has to see it too.
_loading: list[str] = []


@contextmanager
def only_loading(source: str) -> Iterator[None]:
    """Refuses starts of applications while it lasts.

    Args:
        source: what is loaded, for the message.
    """
    _loading.append(source)
    try:
        yield
    finally:
        _loading.remove(source)


def refuse_while_loading(call: str) -> None:
    """Refuses a call that starts an application while a script is only being loaded.

    Args:
        call: as it stands in the script.

    Raises:
        AppStateError: a script is being loaded; says how it is written right.
    """
    if _loading:
        message = (
            f"{call} is not for now: {_loading[-1]} is only being loaded, by a command that finds "
            f'its application and decides what to do with it; put {call} under if __name__ == "__main__":'
        )
        raise AppStateError(message)
