"""Engines that make the features of `core/features/declarations.py`: the kernel in this process, and SQL.

The kernel is the default and what everything is measured on. Spark is for data past one machine, Postgres for rows
beside the data, DuckDB what the others are compared with. All give the same features, to the precision of the sums that
they make in another order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Literal

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.features.declarations import feature_types

Engine = Literal["kernel", "duckdb", "spark", "postgres"]
Compute = Callable[..., pa.Table]


class EngineError(PlatformError):
    """An engine that cannot be started; the message says what is missing."""


def open_engine(engine: Engine, database_url: str | None = None) -> Compute:
    """What takes and returns the same as `compute_features`, on an engine.

    Args:
        engine: which.
        database_url: of the Postgres server that shall compute, for `postgres`.
    """
    if engine == "spark":
        return _on_spark
    if engine == "postgres":
        if database_url is None:
            raise EngineError("the engine postgres needs the URL of a database")
        return partial(_on_postgres, database_url)
    return _on_duckdb if engine == "duckdb" else _in_process


# Each brings its own libraries, for a second or two, and a command needs one of them at most.


def _in_process(
    transactions: pa.Table, statements: pa.Table, contract: Contract, *, start: datetime, end: datetime
) -> pa.Table:
    from fraud_assets.core.features.kernel import compute_features

    return compute_features(transactions, statements, contract, start=start, end=end)


def _on_duckdb(
    transactions: pa.Table, statements: pa.Table, contract: Contract, *, start: datetime, end: datetime
) -> pa.Table:
    from fraud_assets.core.features.ibis_expression import compute_with_duckdb

    return compute_with_duckdb(transactions, statements, contract, start=start, end=end)


def _on_spark(
    transactions: pa.Table, statements: pa.Table, contract: Contract, *, start: datetime, end: datetime
) -> pa.Table:
    import ibis

    from fraud_assets.core.features.ibis_expression import REPORTS, ROWS, feature_expression, feature_inputs

    spark = _spark_session()
    rows, reports = feature_inputs(transactions, statements, contract, start=start, end=end)
    for name, table in ((ROWS, rows), (REPORTS, reports)):
        spark.createDataFrame(table).createOrReplaceTempView(name)
    ibis.pyspark  # noqa: B018 # Its options are set when it is first named, and its SQL needs them.
    sql = str(ibis.to_sql(feature_expression(contract), dialect="pyspark"))
    return _as_from_duckdb(spark.sql(sql).toArrow(), contract)


def _spark_session() -> Any:
    """The session there is, or a new one: with the master of Spark's own configuration, or in this process."""
    try:
        from pyspark import SparkConf
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise EngineError("FRAUD_ENGINE=spark needs PySpark: pip install 'fraud-assets[spark]'") from error
    builder = SparkSession.builder.appName("fraud features").config("spark.sql.session.timeZone", "UTC")
    configured = SparkConf()
    if not configured.contains("spark.master") and "SPARK_REMOTE" not in os.environ:
        # One process: more shuffle partitions than cores only cost time, and nobody needs its pages or its progress.
        for name, value in (
            ("spark.master", "local[*]"),
            ("spark.sql.shuffle.partitions", str(os.cpu_count())),
            ("spark.ui.enabled", "false"),
            ("spark.ui.showConsoleProgress", "false"),
            ("spark.log.level", "ERROR"),
        ):
            builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise EngineError(
            f"Spark does not start: {error}; it needs Java 17 or newer, named by JAVA_HOME or on the PATH"
        ) from error


def _on_postgres(
    database_url: str,
    transactions: pa.Table,
    statements: pa.Table,
    contract: Contract,
    *,
    start: datetime,
    end: datetime,
) -> pa.Table:
    import adbc_driver_postgresql.dbapi as adbc
    import ibis

    from fraud_assets.core.features.ibis_expression import REPORTS, ROWS, feature_expression, feature_inputs

    rows, reports = feature_inputs(transactions, statements, contract, start=start, end=end)
    sql = str(ibis.to_sql(feature_expression(contract), dialect="postgres"))
    with adbc.connect(database_url) as connection, connection.cursor() as cursor:
        for name, table in ((ROWS, rows), (REPORTS, reports)):
            # Only this connection sees them, and they go with it.
            cursor.adbc_ingest(name, table, mode="create", temporary=True)
            # Without statistics, a join is planned as if both sides were tiny.
            cursor.execute(f"ANALYZE {name}")
        cursor.execute(sql)
        return _as_from_duckdb(cursor.fetch_arrow_table(), contract)


def _as_from_duckdb(table: pa.Table, contract: Contract) -> pa.Table:
    """The same columns and types, whatever the engine calls them."""
    transactions = contract.transactions_schema()
    columns = {
        "transaction_id": transactions.field("transaction_id").type,
        "event_timestamp": pa.timestamp("us", tz="UTC"),
        **{entity: transactions.field(entity).type for entity in contract.entities},
        **feature_types(contract),
    }
    return table.select(list(columns)).cast(pa.schema(columns.items()))
