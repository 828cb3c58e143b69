"""Columns that show drift which the features of the models cannot show yet, or would not.

The features of amounts look back so far that a young platform does not have them for months; a new shop is a fraud
feature of nobody, and yet the first sign that a stream of other transactions came in. Made for the drift report alone:
what models learn from is in `features.py`, what is tested in `drift.py`.
"""

from __future__ import annotations

from collections.abc import Collection

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contract import Contract
from fraud_assets.core.features import ENTITY_FEATURES, Windows, feature_names

RECENT_DAYS = 30
SEEN_DAYS = 31  # every weekday four times, and every day of the month once
LEAST_ROWS = 5  # of a mean; below, one odd amount makes everything odd
RECENT_AMOUNT = "amount_over_recent_mean"
NEW = "_new"
MICROSECONDS_PER_DAY = 86_400_000_000


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
    asked = [*contract.entities, *(["amount"] if RECENT_AMOUNT in names else [])]
    moment = rows["event_timestamp"].cast(pa.timestamp("us", tz="UTC"))
    local = pc.local_timestamp(moment.cast(pa.timestamp("us", tz=contract.timezone)))
    columns = {"@day": local, "@month": pc.floor_temporal(local, unit="month")}
    columns = {name: _day_number(moments) for name, moments in columns.items()}
    columns |= {name: rows[name] for name in asked} | {"@row": pa.array(np.arange(rows.num_rows))}
    with duckdb.connect() as connection:
        connection.register("rows", pa.table(columns))
        for name in names:
            query = _recent_amount(contract.card or "") if name == RECENT_AMOUNT else _new(name.removesuffix(NEW))
            rows = rows.append_column(name, connection.sql(query).to_arrow_table()["value"])
    return rows


def counting_features(contract: Contract) -> frozenset[str]:
    """The features that are more, or less, when there are more rows: counts, sums and times since the last one."""
    counting = set()
    for entity in contract.entities:
        for feature in ENTITY_FEATURES:
            windows = Windows(entity)
            feature.value(windows)
            aggregates = {aggregate for aggregate, _ in windows.asked}
            # Of known frauds it is their number that matters, however many rows there are.
            if aggregates & {"count", "last", "excess"} and "frauds" not in aggregates:
                counting.add(f"{entity.removesuffix('_id')}_{feature.name}")
    return frozenset(counting & set(feature_names(contract)))


def delivered_columns(contract: Contract, columns: Collection[str]) -> frozenset[str]:
    """Those of some columns that the source delivers; where one of these is empty, the feed is at fault."""
    return frozenset(columns) & {"amount", *contract.attributes}


def _day_number(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    """Days since 1970-01-01."""
    days = pc.floor_temporal(moments, unit="day").cast(pa.int64())
    return pc.divide(days, pa.scalar(MICROSECONDS_PER_DAY))


def _recent_amount(card: str) -> str:
    # Sums of whole hundredths are the same in any order, sums of decimals are not.
    return f"""
        WITH daily AS (
            SELECT "{card}" AS id, "@day" AS day, count(amount) AS n, sum(round(amount * 100)::HUGEINT) AS total
            FROM rows WHERE "{card}" IS NOT NULL AND NOT isnan(amount) GROUP BY ALL
        ), recent AS (
            SELECT id, day, sum(n) OVER before AS n, sum(total) OVER before / 100 AS total FROM daily
            WINDOW before AS (PARTITION BY id ORDER BY day RANGE BETWEEN {RECENT_DAYS} PRECEDING AND 1 PRECEDING)
        )
        SELECT (CASE WHEN n >= {LEAST_ROWS} AND total > 0 THEN amount / (total / n) END)::FLOAT AS value
        FROM rows LEFT JOIN recent ON "{card}" = id AND "@day" = day ORDER BY "@row"
    """


def _new(entity: str) -> str:
    # Of the months in which an entity was seen, the one before tells when it was seen last before this one began.
    return f"""
        WITH months AS (
            SELECT "{entity}" AS id, "@month" AS month, max("@day") AS last
            FROM rows WHERE "{entity}" IS NOT NULL GROUP BY ALL
        ), before AS (SELECT id, month, lag(last) OVER (PARTITION BY id ORDER BY month) AS last FROM months)
        SELECT (CASE WHEN id IS NOT NULL THEN (last IS NULL OR last < month - {SEEN_DAYS})::INTEGER END)::FLOAT AS value
        FROM rows LEFT JOIN before ON "{entity}" = id AND "@month" = month ORDER BY "@row"
    """
