"""Whether a few customers changed much while the others did not: what a comparison of all rows together cannot see.

Five customers in a hundred who spend a third more move the distribution of all amounts by one part in a hundred. Each
of them beside his own past stands out. How a column of all rows is compared belongs to `columns.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtr

from fraud_assets.core.statistics.clusters import FloatArray, stable

LEAST_ROWS = 15  # of a customer in a month: a mean of fewer is too uncertain to stand out
LEAST_CUSTOMERS = 100  # below, a share of a few in a hundred is one or two people
# Standard errors from where a customer counts as changed. 2.5: one in eighty by chance, so that the share of those who
# are counted by mistake is small beside a share of 5 in 100, and a change by a third is found in most.
CHANGED = 2.5
# Amounts of a customer vary by at least this part of their mean, or a subscription of a fixed price that rises by a
# cent would stand out.
LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class EntityShift:
    """Shares of customers who changed, this month and the month before, and what speaks for a difference.

    Attributes:
        customers: how many could be compared, this month and the month before.
        shares: of them who changed by more than `CHANGED` standard errors, relative to the median customer.
        statistic: of the one-sided test of two proportions, standard normal if they are equal.
        p_value: chance of such a rise.
        factor: the median change of those who changed, of their more frequent direction, beside that of all.
        changed: the ids of those who changed this month.
    """

    customers: tuple[int, int]
    shares: tuple[float, float]
    statistic: float
    p_value: float
    factor: float
    changed: pa.Array


def shift_of_entities(months: Sequence[pa.Table], card: str, amount: str) -> EntityShift | None:
    """Compares the share of customers who changed this month with that of the month before.

    A customer's mean amounts m0 and m1 of two months are compared as z = (sqrt m1 - sqrt m0) / sqrt(v0 / 4 m0 + v1 / 4
    m1), v the squared standard error of each (the delta method: roots, as the spread of amounts grows with them),
    after m1 is divided by the median of m1 / m0, and less the median z: what all customers share is taken out.

    Args:
        months: three tables of rows, the month before last, the last one and the one in question.
        card: the column of the customers.
        amount: the column of their amounts.

    Returns:
        None where too few customers have enough rows with an amount above zero in the mean.
    """
    if any(not {card, amount} <= set(table.column_names) for table in months):
        return None
    means = [_means(table, card, amount) for table in months]
    before, now = _changes(means[0], means[1]), _changes(means[1], means[2])
    customers = before.num_rows, now.num_rows
    if min(customers) < LEAST_CUSTOMERS:
        return None
    changed = [np.abs(table["z"].to_numpy()) > CHANGED for table in (before, now)]
    shares = float(changed[0].mean()), float(changed[1].mean())
    pooled = (int(changed[0].sum()) + int(changed[1].sum())) / sum(customers)
    error = math.sqrt(pooled * (1 - pooled) * (1 / customers[0] + 1 / customers[1]))
    statistic = (shares[1] - shares[0]) / error if error > 0 else 0.0
    z, ratio = now["z"].to_numpy(), now["ratio"].to_numpy()
    up, down = z > CHANGED, z < -CHANGED
    most = up if up.sum() >= down.sum() else down
    return EntityShift(
        customers=customers,
        shares=shares,
        statistic=stable(statistic),
        p_value=stable(float(ndtr(-statistic))),
        factor=stable(float(np.median(ratio[most]))) if most.any() else 1.0,
        changed=now["id"].filter(pa.array(changed[1])).combine_chunks(),
    )


def _means(table: pa.Table, card: str, amount: str) -> pa.Table:
    """Customers with enough rows, by id: n, mean and variance of their amounts."""
    column = table[card].cast(table[card].type.value_type) if pa.types.is_dictionary(table[card].type) else table[card]
    rows = pa.table({"id": column, "amount": table[amount].cast(pa.float64())})
    rows = rows.filter(pc.and_(pc.is_valid(rows["id"]), pc.is_finite(rows["amount"])))
    groups = rows.group_by("id", use_threads=False).aggregate(
        [("amount", "count"), ("amount", "mean"), ("amount", "variance", pc.VarianceOptions(ddof=1))]
    )
    groups = groups.rename_columns(["id", "n", "mean", "variance"])
    enough = pc.and_(pc.greater_equal(groups["n"], LEAST_ROWS), pc.greater(groups["mean"], 0.0))
    return groups.filter(enough).sort_by("id")


def _changes(before: pa.Table, after: pa.Table) -> pa.Table:
    """Customers of both months: id, ratio of means, and z less the median z."""
    both = before.join(after, "id", join_type="inner", right_suffix="_after", use_threads=False).sort_by("id")
    error = np.zeros(both.num_rows)
    ratio = both["mean_after"].to_numpy() / both["mean"].to_numpy()
    # Prices that rise for all are no habit of anyone's.
    common = float(np.median(ratio)) if len(ratio) else 1.0
    means: list[FloatArray] = []
    for suffix, unit in (("", 1.0), ("_after", common)):
        n, mean, variance = (both[f"{name}{suffix}"].to_numpy() for name in ("n", "mean", "variance"))
        mean, variance = mean / unit, variance / unit**2
        error += np.maximum(variance, (LEAST_SPREAD * mean) ** 2) / n / (4 * mean)
        means.append(mean)
    # Nine decimals: the order of the rows reaches the last digits of a mean, and must not move anyone over the limit.
    z = np.round((np.sqrt(means[1]) - np.sqrt(means[0])) / np.sqrt(error), 9)
    centred = z - np.median(z) if len(z) else z
    return pa.table({"id": both["id"], "ratio": ratio / common, "z": centred})
