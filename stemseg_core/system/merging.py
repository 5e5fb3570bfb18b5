"""Sums over blocks that have the same bits whoever makes them: merged in the order of the blocks, in a fixed tree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stemseg_core.system.types import Partial


def add(a: Partial, b: Partial) -> Partial:
    """Add two partial results member by member, arrays in place in the first."""
    return tuple(np.add(x, y, out=x) if isinstance(x, np.ndarray) else x + y for x, y in zip(a, b, strict=True))


def larger(a: Partial, b: Partial) -> Partial:
    """Of two pairs (size, what has it) the larger one, entry by entry if they are arrays; the first of equals."""
    later = b[0] > a[0]
    return np.where(later, b[0], a[0]), np.where(later, b[1], a[1])


class MergeTree:
    """Merge partial results in a tree of fixed shape that streams: only log2(n) of them are alive.

    Leaves come in order. Two neighbours of one level are merged as soon as both are there, as a binary counter carries.
    A worker may merge an aligned group of 2**m leaves by itself and push the result at level m: the shape is the same.
    """

    def __init__(self, merge: Callable[[Partial, Partial], Partial]) -> None:
        self.merge = merge
        self.nodes: list[tuple[int, Partial]] = []

    def push(self, partial: Partial, level: int = 0) -> None:
        while self.nodes and self.nodes[-1][0] == level:
            partial = self.merge(self.nodes.pop()[1], partial)
            level += 1
        self.nodes.append((level, partial))

    def total(self) -> Partial | None:
        """The merge of everything, or None if nothing came."""
        if not self.nodes:
            return None
        nodes = [partial for _, partial in self.nodes]
        total = nodes.pop()
        while nodes:
            total = self.merge(nodes.pop(), total)
        return total
