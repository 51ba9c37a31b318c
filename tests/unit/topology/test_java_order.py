"""Orders of the JVM's hash and tree sets; expected values were printed by JDK 17."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thalweg.topology.java_order import (
    TreeSet,
    described_order,
    group_order,
    set_order,
    string_hash,
    text_order,
)


def test_the_hash_counts_utf_16_units() -> None:
    assert string_hash("") == 0
    assert string_hash("hello") == 99162322
    assert string_hash("𝄞") == 31 * 0xD834 + 0xDD1E


def test_texts_compare_by_utf_16_units() -> None:
    # By code points the clef comes last, by units its first half comes before U+FF5E.
    assert sorted(["\uff5e", "𝄞", "a"], key=text_order) == ["a", "𝄞", "\uff5e"]


def test_a_set_is_ordered_by_bucket() -> None:
    words = ["k", "n", "q", "h", "lx", "qbis", "x", "jqis", "nayus", "wdt", "msytw"]

    assert set_order(words) == [
        "jqis", "msytw", "q", "wdt", "h", "x", "nayus", "k", "lx", "n", "qbis",
    ]  # fmt: skip


def test_names_of_one_bucket_stay_in_the_order_given() -> None:
    assert string_hash("Aa") == string_hash("BB")
    assert set_order(["BB", "Aa"]) == ["BB", "Aa"]
    assert set_order(["Aa", "BB", "Aa"]) == ["Aa", "BB"]


def test_a_copied_set_of_twelve_has_a_larger_table() -> None:
    twelve = [chr(ord("A") + 16 * (at % 2) + at // 2) for at in range(12)]

    assert set_order(twelve) != set_order(twelve, copied=True)
    assert set_order(twelve[:11]) == set_order(twelve[:11], copied=True)
    assert set_order(twelve, copied=True) == sorted(twelve)


def test_groups_are_ordered_by_the_sum_of_their_hashes() -> None:
    groups = [["c"], ["a", "b"], ["d"]]

    assert group_order(groups, 4) == [["c"], ["a", "b"], ["d"]]
    assert string_hash("a") + string_hash("b") == 195
    assert group_order([["b"], ["a"]], 2) == [["a"], ["b"]]


@given(st.lists(st.integers()))
def test_a_tree_set_of_a_steady_order_sorts(items: list[int]) -> None:
    tree: TreeSet[int] = TreeSet(lambda one, other: one < other)
    for item in items:
        tree.add(item)

    assert list(tree) == sorted(set(items))


def test_a_tree_set_compares_on_the_way_in_only() -> None:
    weights = [0, 4, 2, 1, 3, 0, 2, 4]
    tree: TreeSet[int] = TreeSet(lambda one, other: (-weights[one], one) < (-weights[other], other))
    for item, heavier, gain in [
        (0, 5, 3), (5, 2, 4), (2, 7, 1), (1, 0, 5), (7, 3, 2), (0, 6, 5), (3, 4, 0), (6, 1, 2),
    ]:  # fmt: skip
        tree.add(item)
        weights[heavier] += gain

    # 0 is in twice: it grew after it went in, and its new weight leads elsewhere.
    assert list(tree) == [6, 2, 0, 7, 1, 3, 5, 0]


def test_nodes_stand_by_weight_and_arrows_by_weights_on_the_way() -> None:
    order = described_order(
        {
            "src": [],
            "z": ["src"],
            "a": ["src"],
            "m": ["z", "a"],
            "snk": ["m", "a", "src"],
        }
    )

    assert order.nodes == ["src", "a", "z", "m", "snk"]
    assert order.predecessors["snk"] == ["src", "m", "a"]
    assert order.successors["src"] == ["a", "snk", "z"]


def test_a_long_chain_and_many_diamonds_take_no_time() -> None:
    chain = {f"n{at}": [f"n{at - 1}"] if at else [] for at in range(2000)}
    assert described_order(chain).nodes[0] == "n0"

    diamonds: dict[str, list[str]] = {"top0": []}
    for at in range(60):
        diamonds |= {f"l{at}": [f"top{at}"], f"r{at}": [f"top{at}"]}
        diamonds[f"top{at + 1}"] = [f"l{at}", f"r{at}"]
    assert described_order(diamonds).nodes[0] == "top0"
