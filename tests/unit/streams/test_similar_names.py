"""Names that may have been meant."""

from __future__ import annotations

import pytest

from thalweg.streams.similar_names import similar_names

KNOWN = ["lines", "word-counts", "orders.v1", "Orders", "customers"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("line", ["lines"]),
        ("linse", ["lines"]),
        ("LINES", ["lines"]),
        ("word_counts", ["word-counts"]),
        ("wordcount", ["word-counts"]),
        ("costumers", ["customers"]),
        ("orders", ["Orders", "orders.v1"]),
        ("lines", []),
        ("payments", []),
        ("", []),
    ],
)
def test_similar_names_are_few_letters_apart(typed: str, meant: list[str]) -> None:
    assert similar_names(typed, KNOWN) == meant
