"""A home with two months of one person among others, for what is done about rows of people."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.core.simulator import SimulatorConfig, simulate_month
from fraud_assets.settings import Settings
from fraud_assets.workflows.labels import quarantine
from fraud_assets_tests.workflows.people.small_home import MONTHS, PERSON, write_features


@pytest.fixture
def settings(database, tmp_path):
    contract = tmp_path / "tests.yaml"
    text = (Settings().contract_path).read_text(encoding="utf-8").replace("name: simulator", "name: tests")
    contract.write_text(text, encoding="utf-8")
    given = Settings(home=tmp_path / "home", contract=contract, database_url=database.url)
    given.workspace.mkdir(parents=True)
    return given


@pytest.fixture
def delivered(settings):
    """Two months of transactions, one customer of which is the person; and the person's id before."""
    months = {month: simulate_month(month, SimulatorConfig(customers=20, terminals=30, seed=3)) for month in MONTHS}
    schema = settings.loaded_contract.transactions_schema()
    common = months[MONTHS[0]]["customer_id"][0].as_py()
    found = {}
    for month, rows in months.items():
        ids = [PERSON if one == common else one for one in rows["customer_id"].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index("customer_id"), "customer_id", pa.array(ids, pa.int64()))
        rows = rows.select(schema.names).cast(schema)
        moment = pa.field("ingested_at", pa.timestamp("us", tz="UTC"), nullable=False)
        found[month] = rows.append_column(moment, pa.array([datetime.now(UTC)] * rows.num_rows, moment.type))
    return found


@pytest.fixture
def store(settings, delivered):
    """The months, their features, a quarantined row, a score, a recent transaction and a refused label row."""
    store = open_store(settings, writing=True)
    for month, rows in delivered.items():
        store.replace_months("raw_transactions", rows, [month], inputs={"source": {month: "as delivered"}})
    nothing = pa.table({field.name: pa.array([], field.type) for field in store.contract.labels_schema()})
    for month in MONTHS:
        write_features(store, month, nothing)
    store.replace_months(
        "quarantined_transactions",
        pa.table({
            "month": pa.array([datetime(2025, 2, 1).date()] * 2), "source": ["a"] * 2, "row_number": [1, 2],
            "reasons": ["[]"] * 2, "row_digest": ["d1", "d2"], "status": ["quarantined"] * 2,
            "original": [json.dumps({"customer_id": str(PERSON), "amount": "x"}), json.dumps({"customer_id": "5"})],
        }),
        ["2025-02"], inputs={"source": {"2025-02": "as delivered"}},
    )  # fmt: skip
    refused = {"file": ["f.csv"], "row_number": [1], "reasons": ["[]"], "original": [f"{PERSON};maybe"]}
    quarantine(store, pa.table(refused))
    with store.database.session() as connection:
        connection.execute(
            "INSERT INTO scored_transactions (transaction_id, model_version, event_timestamp, scored_at, transaction, "
            "probability, threshold, decision, pass_through_probability, passed_through, features) VALUES "
            "('t', 1, now(), now(), %s, 0.1, 0.5, 'approve', 0, false, '{\"x\":1e-300}')",
            [json.dumps({"customer_id": PERSON, "amount": 1.5})],
        )
        connection.execute(
            "INSERT INTO entity_lists (change, list, action, entity, value, reason, actor, since) VALUES "
            "('add', 'bad', 'block', 'customer_id', %s, 'why', 'ada', now()), "
            "('add', 'bad', 'block', 'customer_id', '5', 'why', 'ada', now())",
            [str(PERSON)],
        )
        connection.execute(
            "CREATE TABLE recent_transactions (number bigint, customer_id bigint, terminal_id bigint, "
            "event_timestamp timestamptz DEFAULT now())"
        )
        connection.execute("INSERT INTO recent_transactions VALUES (1, %s), (2, 5)", [PERSON])
    return store
