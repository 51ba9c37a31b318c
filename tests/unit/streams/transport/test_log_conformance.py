"""The embedded log keeps the port's promises, in a directory and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.streams.transport.conformance import TransportConformance, World
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.memory import MemoryTransport, memory_log
from thalweg.streams.transport.port import Transport


class LocalWorld(World):
    """A log in a directory."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self.data_dir = data_dir

    def new_transport(self, group: str | None) -> Transport:
        return LocalTransport(self.data_dir, group, now_ms=lambda: self.now_ms)


class MemoryWorld(World):
    """A log in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.log = memory_log()

    def new_transport(self, group: str | None) -> Transport:
        return MemoryTransport(self.log, group, now_ms=lambda: self.now_ms)


class TestLocal(TransportConformance):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        with LocalWorld(tmp_path / "log") as world:
            yield world


class TestMemory(TransportConformance):
    @pytest.fixture
    def world(self) -> Iterator[World]:
        with MemoryWorld() as world:
            yield world
