"""Public conformance suites: proof that anyone's backend keeps the contracts of `stores`.

`ByteStoreSuite` is for backends, `KeyValueStoreSuite`, `WindowStoreSuite`, `SessionStoreSuite` and
`ListStoreSuite` are for typed stores, whatever layers they have; `RecordingHost` is the task such a
store is opened in.

Needs pytest and hypothesis, which the distribution itself does not.
"""

from __future__ import annotations

from thalweg.stores.testing.byte_store import ByteStoreSuite
from thalweg.stores.testing.host import LoggedChange, RecordingHost
from thalweg.stores.testing.key_value import KeyValueStoreSuite
from thalweg.stores.testing.lists import ListStoreSuite
from thalweg.stores.testing.session import SessionStoreSuite
from thalweg.stores.testing.window import WindowStoreSuite

__all__ = [
    "ByteStoreSuite",
    "KeyValueStoreSuite",
    "ListStoreSuite",
    "LoggedChange",
    "RecordingHost",
    "SessionStoreSuite",
    "WindowStoreSuite",
]
