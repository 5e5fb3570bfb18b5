"""The merge of partial results (of types.Partial): a tree of fixed shape, whatever is merged where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemseg_core.system.merging import MergeTree, add, larger


def record(a, b):
    return ((a, b),)


@given(n=st.integers(0, 200), level=st.integers(0, 6))
def test_tree_has_the_same_shape_for_any_aligned_grouping(n, level):
    def tree_of(leaves):
        tree = MergeTree(record)
        for leaf in leaves:
            tree.push((leaf,))
        return tree

    whole = MergeTree(record)
    for start in range(0, n, 2**level):
        for at, partial in tree_of(range(start, min(start + 2**level, n))).nodes:
            whole.push(partial, at)
    assert whole.total() == tree_of(range(n)).total()


@given(n=st.integers(1, 5000))
@settings(max_examples=30)
def test_tree_holds_few_partials_and_keeps_the_order(n):
    tree = MergeTree(lambda a, b: (a[0] + b[0],))
    alive = 0
    for leaf in range(n):
        tree.push(((leaf,),))
        alive = max(alive, len(tree.nodes))
    assert alive <= n.bit_length()
    assert tree.total() == (tuple(range(n)),)


def test_empty_tree():
    assert MergeTree(add).total() is None


def test_add():
    a, b = (np.ones(2), 3), (np.full(2, 5.0), 4)
    total = add(a, b)
    assert total[0] is a[0]
    assert total[0].tolist() == [6, 6]
    assert total[1] == 7
    with pytest.raises(ValueError, match="zip"):
        add((1,), (1, 2))


def test_the_larger_of_pairs_is_taken_entry_by_entry_and_the_first_of_equals():
    sizes, rows = larger((np.array([1.0, 5.0, 2.0]), np.array([10, 11, 12])), (np.array([3.0, 5.0, 1.0]), np.arange(3)))
    assert sizes.tolist() == [3, 5, 2]
    assert rows.tolist() == [0, 11, 12]
    size, row = larger((1.0, np.zeros(2)), (2.0, np.ones(2)))
    assert size == 2
    assert row.tolist() == [1, 1]
