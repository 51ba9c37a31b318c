"""The typed store over bytes: serdes, counters, and the faces users and nodes call."""

from __future__ import annotations

from typing import Any

from stores.api import KeyValueStore, StoreHost


class MeteredKeyValueStore(KeyValueStore[Any, Any]):
    """Placeholder until the layers are stacked."""

    def __init__(self, bytes_store: Any, builder: Any, host: StoreHost) -> None:
        self.bytes_store = bytes_store
        self.builder = builder
