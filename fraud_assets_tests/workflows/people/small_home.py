"""What tests of the small home with one person among others share; the home itself is in `conftest.py`."""

from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.lineage.staleness import inputs_of

MONTHS = ("2025-01", "2025-02")
PERSON = 7_654_321


def write_features(store, month, statements):
    rows = store.read("raw_transactions", first_month=MONTHS[0], last_month=month)
    start, end = store.contract.month_start(month), store.contract.month_end(month)
    schema = store.contract.transactions_schema()
    features = compute_features(
        rows.select(schema.names).cast(schema), statements.cast(store.contract.labels_schema()), store.contract,
        start=start, end=end,
    )  # fmt: skip
    return store.replace_months("transaction_features", features, [month], inputs=inputs_of(rows))[0]


def everything(database):
    """All text of all rows of the database, the statistics of the server among them."""
    tables = database.query(
        "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) AS name FROM information_schema.tables "
        "WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('information_schema', 'pg_catalog')"
    )["name"].to_pylist()
    found = {}
    for name in [*tables, "pg_catalog.pg_stats"]:
        with database.session() as connection:
            found[name] = "\n".join(text for (text,) in connection.execute(f"SELECT t::text FROM {name} t".encode()))
    return found
