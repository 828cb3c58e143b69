"""Columns that tell the label: filled in afterwards, computed by somebody's model, or a copy of it.

A column that separates fraud because of how it came about is a leak. One that separates it well may also just be a good
feature, so nothing is thrown away for being good: that is a question for a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

# With fewer of either kind, any column of few values can tell them apart by chance.
LEAST = 10
NEARLY_ALL, NEARLY_NONE = 0.995, 0.005
MOSTLY = 0.95
# A single column ranks frauds before genuine rows nearly without a mistake.
PERFECT_AUC = 0.98


@dataclass(frozen=True)
class Telling:
    """How a column alone tells frauds from genuine rows.

    Attributes:
        because: how it does so by the way it is filled; empty where it does not.
        auc: the area under the ROC curve of the column alone, at least 1/2; None where there is nothing to rank.
    """

    because: str = ""
    auc: float | None = None


def telling(
    values: pd.Series[Any], numbers: npt.NDArray[np.float64] | None, is_fraud: npt.NDArray[np.float64]
) -> Telling:
    """How a column alone tells frauds from genuine rows.

    Args:
        values: as text, empty where there is none.
        numbers: the same as numbers, where they are such.
        is_fraud: 1, 0, or NaN where it is not known.
    """
    fraud, genuine = is_fraud == 1, is_fraud == 0
    if min(fraud.sum(), genuine.sum()) < LEAST:
        return Telling()
    given = (values != "").to_numpy()
    in_fraud, in_genuine = given[fraud].mean(), given[genuine].mean()
    if in_fraud >= MOSTLY and in_genuine <= NEARLY_NONE:
        return Telling("has a value on frauds alone")
    if in_genuine >= MOSTLY and in_fraud <= NEARLY_NONE:
        return Telling("has no value on frauds, and one on all others")
    codes, names = pd.factorize(values)
    for these, others, said in ((genuine, fraud, "genuine row"), (fraud, genuine, "fraud")):
        counts = np.bincount(codes[these], minlength=len(names))
        usual = int(counts.argmax())
        if counts[usual] >= NEARLY_ALL * these.sum() and (codes[others] == usual).mean() <= 1 - MOSTLY:
            shown = repr(names[usual]) if names[usual] else "empty"
            return Telling(f"is {shown} on nearly every {said} and on hardly any other")
    if len(names) * 20 <= fraud.sum() + genuine.sum():
        frauds, others_ = (np.bincount(codes[these], minlength=len(names)) for these in (fraud, genuine))
        if len(names) > 1 and np.minimum(frauds, others_).sum() <= 0.02 * min(fraud.sum(), genuine.sum()):
            return Telling("has values that are each on frauds or on genuine rows alone")
    return Telling("", None if numbers is None else _auc(numbers, fraud, genuine))


def _auc(
    numbers: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_], genuine: npt.NDArray[np.bool_]
) -> float | None:
    known = np.isfinite(numbers) & (fraud | genuine)
    n_fraud, n_genuine = int((known & fraud).sum()), int((known & genuine).sum())
    if min(n_fraud, n_genuine) < LEAST:
        return None
    ranks = rankdata(numbers[known])
    above = ranks[fraud[known]].sum() - n_fraud * (n_fraud + 1) / 2
    auc = float(above / (n_fraud * n_genuine))
    return max(auc, 1 - auc)
