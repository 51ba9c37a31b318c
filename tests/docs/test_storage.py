"""The byte store that the documents show passes the suite it is shown with."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from tests.docs.documents import ROOT, blocks
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.testing.byte_store import ByteStoreSuite

SHOWN = {block.title: block for block in blocks(ROOT / "docs" / "storage.md")}


class TestTheShownByteStore(ByteStoreSuite):
    def open_store(self, directory: Path) -> ByteStore:
        module = ModuleType("dict_store")
        exec(SHOWN["dict_store.py"].text, module.__dict__)
        store: ByteStore = module.DictByteStore()
        return store


def test_the_shown_suite_is_the_public_one() -> None:
    text = SHOWN["test_dict_store.py"].text
    assert "from thalweg.stores.testing import ByteStoreSuite\n" in text
    assert "from dict_store import DictByteStore\n" in text
