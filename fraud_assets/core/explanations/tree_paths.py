"""Exact attributions of trees: every leaf with the columns on its path, in compiled loops.

What a model's raw score is, and of what else attributions are made, belongs to `attributions.py`.

Shapley values of trees are path-dependent, as those of SHAP's TreeExplainer (Lundberg et al., From local explanations
to global understanding with explainable AI for trees, 2020, algorithm 2), which is the reference. They are computed in
another way: the Shapley value is the integral of the multilinear extension's derivative (Owen, Multilinear extensions
of games, 1972). For one leaf that is a polynomial of a degree below the number of columns on its path, and
Gauss-Legendre quadrature is exact for it. Its terms all have one sign, so nothing cancels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from fraud_assets.core.explanations.attributions import Trees
from fraud_assets.core.features.compiling import compiled

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Paths:
    """Every leaf with the columns on its path, each once.

    Attributes:
        start: of each leaf its first element below; as many follow as `length` says.
        feature: of each element its column.
        low, high: the row goes on to the leaf where the column is above the one and up to the other,
        missing: or is missing, where this says so.
        share: of the training rows that came to the splits on this column, those that went on to the leaf.
        value: of each leaf.
        mean: of the trees' sum over the training rows.
        nodes, weights: see `_quadrature`.
    """

    start: Integers
    length: Integers
    feature: Integers
    low: Floats
    high: Floats
    missing: Bools
    share: Floats
    value: Floats
    mean: float
    nodes: Floats = field(repr=False)
    weights: Floats = field(repr=False)

    @classmethod
    def of(cls, trees: Trees) -> Self:
        """Takes trees apart."""
        n, n_leaves = len(trees.feature), len(trees.value)
        parent, side = np.full((2, n), -1, np.int64)
        leaf_parent, leaf_side = np.full((2, n_leaves), -1, np.int64)
        stump = trees.true_leaf & trees.false_leaf & (trees.true == trees.false)
        for which, child, is_leaf in ((1, trees.true, trees.true_leaf), (0, trees.false, trees.false_leaf)):
            inner, outer = np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf & ~stump)
            parent[child[inner]], side[child[inner]] = inner, which
            leaf_parent[child[outer]], leaf_side[child[outer]] = outer, which
        share = np.where(parent < 0, 1.0, trees.cover / trees.cover[parent])
        leaf_share = np.where(leaf_parent < 0, 1.0, trees.leaf_cover / trees.cover[leaf_parent])
        start, length, feature, low, high, missing, shares = leaf_paths(
            (trees.feature, trees.split, trees.missing_true),
            (parent, side, share),
            (leaf_parent, leaf_side, leaf_share),
        )
        whole = np.ones(n_leaves)
        np.multiply.at(whole, np.repeat(np.arange(n_leaves), length), shares)
        nodes, weights = _quadrature(int(length.max(initial=1)))
        mean = float((whole * trees.value).sum())
        return cls(start, length, feature, low, high, missing, shares, trees.value, mean, nodes, weights)

    def attributions(self, rows: Floats) -> Floats:
        """Of the trees' sum, float64 [n, p], for rows float64 [n, p] with NaN where a value is missing."""
        values = np.zeros(rows.shape)
        attribute(
            rows,
            (self.start, self.length, self.value),
            (self.feature, self.low, self.high, self.missing, self.share),
            (self.nodes, self.weights),
            values,
        )
        return values


def _quadrature(longest: int) -> tuple[Floats, Floats]:
    """Nodes in 0 to 1 and weights of Gauss-Legendre quadrature, by the number of nodes; rows are filled with zeros."""
    most = (longest + 1) // 2
    nodes, weights = np.zeros((2, most + 1, most))
    for count in range(1, most + 1):
        x, w = np.polynomial.legendre.leggauss(count)
        nodes[count, :count], weights[count, :count] = (x + 1) / 2, w / 2
    return nodes, weights


_F, _I, _B, _TABLE = "float64[::1]", "int64[::1]", "boolean[::1]", "float64[:, ::1]"
_SPLITS, _PLACES = f"Tuple(({_I}, {_F}, {_B}))", f"Tuple(({_I}, {_I}, {_F}))"
_ELEMENTS = f"{_I}, {_F}, {_F}, {_B}, {_F}"


@compiled(f"Tuple(({_I}, {_I}, {_ELEMENTS}))({_SPLITS}, {_PLACES}, {_PLACES})")
def leaf_paths(
    splits: tuple[Integers, Floats, Bools],
    inner: tuple[Integers, Integers, Floats],
    leaves: tuple[Integers, Integers, Floats],
) -> tuple[Integers, Integers, Integers, Floats, Floats, Bools, Floats]:
    """The columns on the way from the root to each leaf, see `Paths`.

    Args:
        splits: of each inner node its column, split, and whether missing values go to the true child.
        inner: of each inner node its parent, -1 of a root; 1 where it is the parent's true child, else 0; and its share
            of the parent's training rows.
        leaves: of each leaf the same; parent -1 where the tree has no split.
    """
    (feature, split, missing_true), (parent, side, share), (leaf_parent, leaf_side, leaf_share) = splits, inner, leaves
    n_leaves = len(leaf_parent)
    total = 0
    for leaf in range(n_leaves):
        node = leaf_parent[leaf]
        while node >= 0:
            total += 1
            node = parent[node]
    start, length, columns = np.empty(n_leaves, np.int64), np.empty(n_leaves, np.int64), np.empty(total, np.int64)
    low, high, shares = np.empty(total), np.empty(total), np.empty(total)
    missing = np.empty(total, np.bool_)
    end = 0
    for leaf in range(n_leaves):
        begin = end
        node, which, part = leaf_parent[leaf], leaf_side[leaf], leaf_share[leaf]
        while node >= 0:
            place = begin
            while place < end and columns[place] != feature[node]:
                place += 1
            if place == end:
                columns[end], shares[end], missing[end] = feature[node], 1.0, True
                low[end], high[end] = -np.inf, np.inf
                end += 1
            if which == 1:
                high[place] = min(high[place], split[node])
            else:
                low[place] = max(low[place], split[node])
            missing[place] = missing[place] and missing_true[node] == (which == 1)
            shares[place] *= part
            node, which, part = parent[node], side[node], share[node]
        start[leaf], length[leaf] = begin, end - begin
    return (
        start, length, columns[:end].copy(), low[:end].copy(), high[:end].copy(), missing[:end].copy(),
        shares[:end].copy(),
    )  # fmt: skip


@compiled(f"void({_TABLE}, {_PLACES}, Tuple(({_ELEMENTS})), UniTuple({_TABLE}, 2), {_TABLE})")
def attribute(
    rows: Floats,
    leaves: tuple[Integers, Integers, Floats],
    elements: tuple[Integers, Floats, Floats, Bools, Floats],
    quadrature: tuple[Floats, Floats],
    values: Floats,
) -> None:
    """Adds the attributions of every leaf to `values`.

    Of a leaf with value v on a path of columns j, whose shares are z_j, and where o_j is 1 if the row's own value goes
    on to the leaf and else 0, the attribution of column i is the integral over t from 0 to 1 of
    v * (o_i - z_i) * product over j other than i of ((1 - t) * z_j + t * o_j).

    Args:
        rows: [n, p].
        leaves: start, length and value, see `Paths`.
        elements: feature, low, high, missing and share, see `Paths`.
        quadrature: nodes and weights, see `_quadrature`.
        values: [n, p], changed.
    """
    (start, length, value), (feature, low, high, missing, share), (nodes, weights) = leaves, elements, quadrature
    product = np.empty(nodes.shape[1])
    longest = 0
    for leaf in range(len(start)):
        longest = max(longest, length[leaf])
    goes_on = np.empty(longest, np.bool_)
    for row in range(rows.shape[0]):
        for leaf in range(len(start)):
            begin, count = start[leaf], length[leaf]
            n_nodes = (count + 1) // 2
            t, w = nodes[n_nodes], weights[n_nodes]
            for q in range(n_nodes):
                product[q] = w[q] * value[leaf]
            for place in range(count):
                x, element = rows[row, feature[begin + place]], begin + place
                hot = missing[element] if np.isnan(x) else low[element] < x <= high[element]
                goes_on[place] = hot
                for q in range(n_nodes):
                    product[q] *= (1.0 - t[q]) * share[element] + (t[q] if hot else 0.0)
            # What keeps a row from the leaf has the same part in that, whatever its share.
            cold = 0.0
            for q in range(n_nodes):
                cold += product[q] / (1.0 - t[q])
            for place in range(count):
                element = begin + place
                if goes_on[place]:
                    total = 0.0
                    for q in range(n_nodes):
                        total += product[q] / ((1.0 - t[q]) * share[element] + t[q])
                    values[row, feature[element]] += (1.0 - share[element]) * total
                else:
                    values[row, feature[element]] -= cold
