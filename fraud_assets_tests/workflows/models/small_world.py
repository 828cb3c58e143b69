"""Four stored months and a version trained at the end of each of the first three, without Dagster and MLflow.

For what explains and reproduces versions: the store and the ledger are real, the registry keeps its texts in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from fraud_assets.adapters.mlflow import RECIPE, RegistryError
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.lineage.staleness import evidence_inputs, inputs_of
from fraud_assets.core.models.scoring import ModelManifest
from fraud_assets.core.models.train_month import manifest_of, train_month
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import Settings

MONTHS = ("2025-01", "2025-02", "2025-03", "2025-04")
START, N = datetime(2025, 1, 1, tzinfo=UTC), 4000
TIMESTAMP = pa.timestamp("us", tz="UTC")
READ = ("transaction_features", "fraud_labels")


@dataclass
class KeptModels:
    """What is asked of a registry here, in memory."""

    settings: Settings
    models: dict[tuple[int, str], tuple[bytes, ModelManifest]] = field(default_factory=dict)
    predictions: dict[int, pa.Table] = field(default_factory=dict)
    texts: dict[tuple[int, str], str] = field(default_factory=dict)

    def fetch(self, version: int, part: str = "serving") -> tuple[bytes, ModelManifest]:
        if (version, part) not in self.models:
            raise RegistryError(f"the registry has no version {version}")
        return self.models[version, part]

    def validation(self, version: int) -> pa.Table:
        return self.predictions[version]

    def text(self, version: int, path: str) -> str | None:
        return self.texts.get((version, path))

    def recipe(self, version: int) -> str | None:
        return self.text(version, f"serving/{RECIPE}")

    def attach(self, version: int, path: str, text: str) -> str:
        self.texts[version, path] = text
        return self.address(version, path)

    def address(self, version: int, path: str) -> str:
        return f"http://registry/{version}/{path}"


@dataclass(frozen=True)
class SmallWorld:
    """The settings, the tables, the ledger and the models."""

    settings: Settings
    store: MonthStore
    ledger: LedgerStore
    registry: KeptModels


def build(server: Callable[[str], Database], name: str, folder: Path) -> SmallWorld:
    """Builds it; version 2 is live since the evidence of 2025-03."""
    contracts = Path(__file__).parents[3] / "contracts"
    file = folder / f"{name}.yaml"
    text = (contracts / "simulator.yaml").read_text(encoding="utf-8").replace("name: simulator", f"name: {name}")
    file.write_text(text, encoding="utf-8")
    settings = Settings(home=folder, contract=file, families="logistic_regression", workers=1)
    store = MonthStore(server(name), settings.loaded_contract)
    _fill(store)
    ledger, registry = LedgerStore(store.database), KeptModels(settings)
    for version, month in enumerate(MONTHS[:3], start=1):
        _train(store, ledger, registry, version, month, text)
    better = [Reason(Rule.BETTER, "Version 2 is better.")]
    ledger.record("promoted", 2, "2025-03", better, actor="test")
    return SmallWorld(settings, store, ledger, registry)


def _fill(store: MonthStore) -> None:
    """Transactions of which most above 60 are fraud, reported after 5 to 40 days."""
    contract, generator = store.contract, np.random.default_rng(20250101)
    minutes = np.sort(generator.choice(120 * 24 * 60, N, replace=False))
    amounts = generator.lognormal(3, 1, N).round(2)
    columns = {
        "transaction_id": np.arange(N),
        "event_timestamp": [START + timedelta(minutes=int(one)) for one in minutes],
        "customer_id": generator.integers(1, 60, N),
        "terminal_id": generator.integers(1, 40, N),
        "amount": amounts,
        "merchant_segment": [("fuel", "travel", "grocery")[one] for one in generator.integers(0, 3, N)],
    }
    schema = contract.transactions_schema()
    rows = pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)
    is_fraud = (amounts > 60) & (generator.random(N) < 0.8)
    delays = generator.uniform(5, 40, N)
    statements = [
        {
            **{name: columns[name][at] for name in ("transaction_id", "event_timestamp", "customer_id", "terminal_id")},
            "is_fraud": True,
            "label_timestamp": columns["event_timestamp"][at] + timedelta(days=float(delays[at])),
            "label_source": "chargeback",
            "origin": "test",
        }
        for at in np.flatnonzero(is_fraud)
    ]
    labels = pa.Table.from_pylist(
        [{name: one.item() if isinstance(one, np.generic) else one for name, one in row.items()} for row in statements],
        schema=store.table("fraud_labels").schema,
    )
    stated = labels.select(contract.labels_schema().names).cast(contract.labels_schema())
    stored = rows.append_column("ingested_at", pa.array([START] * N, TIMESTAMP))
    for name, table, column in (
        ("raw_transactions", stored, "event_timestamp"), ("fraud_labels", labels, "label_timestamp"),
        ("transaction_features", None, ""),
    ):  # fmt: skip
        for month in MONTHS:
            start, end = contract.month_start(month), contract.month_end(month)
            if table is None:
                found = compute_features(rows, stated, contract, start=start, end=end)
            else:
                moments = table[column].to_pylist()
                found = table.filter(pa.array([start <= moment < end for moment in moments]))
            store.replace_months(name, found, [month])


def _train(
    store: MonthStore, ledger: LedgerStore, registry: KeptModels, version: int, month: str, contract_yaml: str
) -> None:
    """As the asset `trained_model` does it."""
    settings, contract = registry.settings, store.contract
    features, statements = (store.read(name, first_month=MONTHS[0], last_month=month) for name in READ)
    result = train_month(month, features, statements, contract, settings.training)
    for part, candidate in (("reference", result.reference), ("serving", result.chosen)):
        onnx = to_onnx(candidate.estimator, len(result.encoder.columns))
        manifest = manifest_of(
            candidate, result, onnx, name="fraud", version=version, month=month, contract=contract,
            contract_yaml=contract_yaml,
        )  # fmt: skip
        registry.models[version, part] = onnx, ModelManifest.from_json(manifest.to_json())
    registry.predictions[version] = result.validation
    registry.attach(version, f"serving/{RECIPE}", settings.training.to_json())
    evidence = inputs_of(evidence_inputs(contract), features, statements, {"training": {"": settings.training.digest}})
    ledger.record(
        "registered", version, month, [Reason(Rule.TRAINED, "it was the best")], actor="test",
        evidence=json.loads(json.dumps(evidence)),
    )  # fmt: skip
