"""Columns that show drift which the features of the models cannot show yet, or would not.

The features of amounts look back so far that a young platform does not have them for months; a new shop is a fraud
feature of nobody, and yet the first sign that a stream of other transactions came in. Made for the drift report alone:
what models learn from is in `features/declarations.py`, what is tested in `covariate.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.declarations import declared_features
from fraud_assets.core.units import MICROSECONDS_PER_DAY

RECENT_DAYS = 30
SEEN_DAYS = 31  # every weekday four times, and every day of the month once
LEAST_ROWS = 5  # of a mean; below, one odd amount makes everything odd
RECENT_AMOUNT = "amount_over_recent_mean"
NEW = "_new"

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def history_columns(contract: Contract) -> tuple[str, ...]:
    """The names of the columns that `with_history_columns` adds for a contract.

    `amount_over_recent_mean` is the amount over the card's own mean of the calendar days from 30 before to the day
    before, null where that mean is not above zero, is of fewer than 5 rows or does not exist. `<entity>_new`, for the
    entities other than the card, is 1 where the entity was not in any row of the 31 days before the month began, else
    0: a shop that opened on the second is new all month, or a few busy ones would not show.
    """
    amount = (RECENT_AMOUNT,) if contract.card and contract.amount else ()
    return amount + tuple(f"{entity}{NEW}" for entity in contract.entities if entity != contract.card)


def with_history_columns(rows: pa.Table, contract: Contract) -> pa.Table:
    """Adds the columns of `history_columns`, each made from earlier days only.

    Args:
        rows: event_timestamp, the entities and the amount of the contract, of the rows in question and of the 31 days
            before; without those days, everything is new.
        contract: of the source; its days are those of its time zone.

    Returns:
        The table with the columns appended as float32, its rows in their order.
    """
    names = history_columns(contract)
    if not names:
        return rows
    moment = rows["event_timestamp"].cast(pa.timestamp("us", tz="UTC"))
    local = pc.local_timestamp(moment.cast(pa.timestamp("us", tz=contract.timezone)))
    day = local.cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY

    def values(name: str) -> Floats:
        if name == RECENT_AMOUNT:
            return _recent_amount(
                _codes(rows[contract.card]), day, rows["amount"].cast(pa.float64(), safe=False).to_numpy()
            )
        return _new(_codes(rows[name.removesuffix(NEW)]), day)

    with ThreadPoolExecutor(len(names)) as pool:
        made = list(pool.map(values, names))
    for name, column in zip(names, made, strict=True):
        rows = rows.append_column(name, pa.array(column.astype(np.float32), from_pandas=True))
    return rows


def counting_features(contract: Contract) -> frozenset[str]:
    """The features that are more, or less, when there are more rows: counts, sums and times since the last one."""
    return frozenset(one.name for one in declared_features(contract) if one.feature.counts)


def label_features(contract: Contract) -> frozenset[str]:
    """The features that are made of labels: of known frauds, and of what matured without one."""
    return frozenset(one.name for one in declared_features(contract) if one.feature.of_labels)


def delivered_columns(contract: Contract, columns: Collection[str]) -> frozenset[str]:
    """Those of some columns that the source delivers; where one of these is empty, the feed is at fault."""
    return frozenset(columns) & {"amount", *contract.attributes}


def _codes(ids: pa.ChunkedArray) -> Integers:
    """Of each row a number of its id, -1 without one."""
    encoded = ids.combine_chunks().dictionary_encode().indices
    return cast(Integers, encoded.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))


def _recent_amount(card: Integers, day: Integers, amount: Floats) -> Floats:
    """The amount over the card's mean of the days before, shape (rows,); NaN where there is none."""
    value = np.full(len(amount), np.nan)
    known = np.flatnonzero((card >= 0) & np.isfinite(amount))
    if not len(known):
        return value
    # Days of a card in order, and so far from the next card's that no window reaches into them.
    since = day[known] - day.min()
    days, place, n = np.unique(
        card[known] * (since.max() + 1 + RECENT_DAYS) + since, return_inverse=True, return_counts=True
    )
    # Sums of whole hundredths are the same in any order, sums of decimals are not.
    hundredths = np.zeros(len(days), dtype=np.int64)
    np.add.at(hundredths, place, np.rint(amount[known] * 100).astype(np.int64))
    first = np.searchsorted(days, days - RECENT_DAYS)
    n, hundredths = (
        (so_far := np.concatenate([[0], np.cumsum(of_day)]))[:-1] - so_far[first] for of_day in (n, hundredths)
    )
    mean = np.divide(hundredths / 100, n, out=np.full(len(days), np.nan), where=(n >= LEAST_ROWS) & (hundredths > 0))
    value[known] = amount[known] / mean[place]
    return value


def _new(entity: Integers, day: Integers) -> Floats:
    """1 where the entity was not seen in the days before the month began, else 0, shape (rows,); NaN without one."""
    value = np.full(len(day), np.nan)
    known = np.flatnonzero(entity >= 0)
    if not len(known):
        return value
    month = day[known].astype("datetime64[D]").astype("datetime64[M]")
    since = (month - month.min()).astype(np.int64)
    number = int(since.max()) + 1
    months, place = np.unique(entity[known] * number + since, return_inverse=True)
    last = np.zeros(len(months), dtype=np.int64)
    np.maximum.at(last, place, day[known])
    # Of the months in which an entity was seen, the one before tells when it was seen last before this one began.
    seen = np.concatenate([[False], months[1:] // number == months[:-1] // number])
    begin = (month.min() + months % number).astype("datetime64[D]").astype(np.int64)
    new = ~seen | (np.roll(last, 1) < begin - SEEN_DAYS)
    value[known] = new[place]
    return value
