"""Which features, and whether scores, a month is compared by: those whose windows were full in the reference."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core import reports
from fraud_assets.core.contract import parse_contract
from fraud_assets.core.drift import DriftConfig, insufficient
from fraud_assets.core.features import feature_names
from fraud_assets.core.windows import Window

CONTRACT = parse_contract("""
name: cards
first_month: 2016-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
entities:
  customer_id: {column: customer, type: integer}
amount: {column: amount, type: number}
label: {column: fraud, delay_days: 7}
maturity_days: 7
""")
NAMES = feature_names(CONTRACT)
# A champion trained on rows from 14 February to the end of March 2018; the month under test is May.
TRAINING = Window(dt.datetime(2018, 2, 14, tzinfo=dt.UTC), dt.datetime(2018, 3, 31, tzinfo=dt.UTC))


def compared(
    first_event: dt.datetime, of_model: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> tuple[set[str], bool]:
    """The features that are compared, and whether scores are."""
    rows = pa.table(
        {"event_timestamp": pa.array([TRAINING.start], pa.timestamp("us", "UTC"))} | {name: [1.0] for name in NAMES}
    )
    asked: dict[str, Any] = {}

    def measure(reference: pa.Table, current: pa.Table, *, features: list[str], **_: Any) -> Any:
        assert reference.column_names == current.column_names
        asked.update(features=set(features), scored="score" in reference.column_names)
        return insufficient("not measured here")

    monkeypatch.setattr(reports, "measure_drift", measure)
    scorer: Any = SimpleNamespace(
        manifest=SimpleNamespace(model_version=1, features=of_model), probabilities=lambda X: np.zeros(len(X))
    )
    reports.compare_with_champion(
        month="2018-05", current=rows, scorer=scorer, training=TRAINING, first_event=first_event,
        read=lambda _first, _last: rows, contract=CONTRACT, config=DriftConfig(),
    )  # fmt: skip
    return asked["features"], asked["scored"]


def test_an_old_platform_compares_every_feature_and_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    features, scored = compared(dt.datetime(2016, 1, 1, tzinfo=dt.UTC), NAMES, monkeypatch)
    assert features == set(NAMES) - {"is_weekend"}
    assert scored


def test_a_young_platform_compares_what_was_full_44_days_after_its_first_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, scored = compared(dt.datetime(2018, 1, 1, tzinfo=dt.UTC), NAMES, monkeypatch)
    assert features - {"hour"} == {
        "amount", "customer_count_1d", "customer_count_7d", "customer_count_30d",
        "customer_known_fraud_share_7d", "customer_known_fraud_share_30d",
    }  # fmt: skip
    assert not scored


def test_scores_are_compared_if_the_features_of_the_model_were_full(monkeypatch: pytest.MonkeyPatch) -> None:
    _, scored = compared(dt.datetime(2018, 1, 1, tzinfo=dt.UTC), ("amount", "customer_count_7d"), monkeypatch)
    assert scored
