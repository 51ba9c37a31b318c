"""Public conformance suites: proof that anyone's backend keeps the contracts of `stores`.

Needs pytest and hypothesis, which the distribution itself does not.
"""

from __future__ import annotations

from stores.testing.byte_store import ByteStoreSuite

__all__ = ["ByteStoreSuite"]
