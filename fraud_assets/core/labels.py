"""Label time: what was known about a transaction, and when.

A label feed holds statements ("transaction 17 was fraud, known since 3 May"). `labels_as_of` is the only way from
statements to labels: it uses no statement from after the as-of time, and calls a transaction genuine only when it
has matured without a report.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("us", tz="UTC")


def labels_as_of(transactions: pa.Table, statements: pa.Table, as_of: datetime, *, maturity_days: float) -> pa.Table:
    """The labels of transactions as they were known at `as_of`.

    The last statement known by then counts (`label_timestamp <= as_of`); of two at the same instant, fraud counts.
    Without a statement a transaction is genuine once `event_timestamp + maturity_days <= as_of`, else unknown.

    Args:
        transactions: at least `transaction_id` and `event_timestamp`.
        statements: at least `transaction_id`, `is_fraud`, `label_timestamp`, `label_source`; any times, any order,
            any number a transaction, also about transactions that are not there.
        as_of: the moment of knowledge, with a time zone.
        maturity_days: days without a report after which a transaction counts as genuine.

    Returns:
        One row per row of `transactions`, in its order: `transaction_id`, `is_fraud` (null = not yet known),
        `label_timestamp` (when that became known), `label_source`, and `is_matured`
        (`event_timestamp + maturity_days <= as_of`).
    """
    if as_of.tzinfo is None:
        raise ValueError(f"as_of {as_of} has no time zone; pass an aware datetime")
    rows = transactions.select(["transaction_id", "event_timestamp"]).append_column(
        "position", pa.array(range(transactions.num_rows), pa.int64())
    )
    known = statements.filter(pc.less_equal(statements["label_timestamp"], pa.scalar(as_of, TIMESTAMP)))
    maturity = timedelta(days=maturity_days)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows", rows)
        connection.register("known", known)
        return connection.sql(
            """
            WITH last AS (
                SELECT transaction_id,
                       max_by(is_fraud, (label_timestamp, is_fraud)) AS is_fraud,
                       max(label_timestamp) AS label_timestamp,
                       max_by(label_source, (label_timestamp, is_fraud, label_source)) AS label_source
                FROM known GROUP BY transaction_id
            ), matured AS (
                SELECT *, event_timestamp + $maturity AS matures, event_timestamp + $maturity <= $as_of AS is_matured
                FROM rows
            )
            SELECT matured.transaction_id,
                   CASE WHEN last.is_fraud IS NOT NULL THEN last.is_fraud WHEN is_matured THEN false END AS is_fraud,
                   CASE WHEN last.is_fraud IS NOT NULL THEN last.label_timestamp WHEN is_matured THEN matures END
                       AS label_timestamp,
                   CASE WHEN last.is_fraud IS NOT NULL THEN last.label_source WHEN is_matured THEN 'auto_matured' END
                       AS label_source,
                   is_matured
            FROM matured LEFT JOIN last USING (transaction_id)
            ORDER BY position
            """,
            params={"maturity": maturity, "as_of": as_of},
        ).to_arrow_table()
