"""What is gained by doing something about frauds being rare: each way on the Handbook's four validation folds.

The platform's features and boosting, trained on the 7 days of each fold; the protocol is that of
`benchmarks/handbook.py`. The test weeks of the single split are not looked at.

    python -m benchmarks.imbalance [--data DIR] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa

from benchmarks.handbook import CONTRACT, FOLDS, HANDBOOK, load_cards, platform_features, split
from benchmarks.reporting import Row, argument_parser, report
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.models.scoring import feature_matrix
from fraud_assets.core.models.training import train
from fraud_assets.core.models.training_config import GRID, Imbalance, TrainingConfig
from fraud_assets.core.statistics.metrics import average_precision


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("Ways to handle imbalance, on the folds of the Fraud Detection Handbook.")
    parser.add_argument("--data", type=Path, default=HANDBOOK, help="folder of months in the Handbook's format")
    options = parser.parse_args(arguments)
    if not any(options.data.glob("*.parquet")):
        parser.error(f"there are no Parquet files in {options.data}; name the folder with --data")
    contract = load_contract(CONTRACT)
    cards = load_cards(options.data, contract)
    features, names = platform_features(cards, contract), feature_names(contract)
    X = feature_matrix(features, names)
    weeks = [split(cards, start, all_history=False) for start in FOLDS]
    rows = []
    for imbalance in get_args(Imbalance):
        # One setting, so that nothing else is chosen. A week is little: undersampling would keep most of it otherwise.
        config = TrainingConfig(
            families=("hist_gradient_boosting",), grid=GRID[:2], imbalance=imbalance, minimum_genuine=0
        )
        reached, started = [], time.process_time()
        for training, test in weeks:
            labels = pa.table({"is_matured": np.full(len(training), True), "is_fraud": cards.fraud[training] == 1})
            taken = features.take(pa.array(training))
            model = train(
                taken, labels, names, maturity_days=contract.maturity_days, config=config, card=contract.card
            ).chosen.estimator
            score, fraud = model.predict_proba(X[test])[:, 1], cards.fraud[test]
            reached.append((average_precision(fraud, score), np.mean((score - fraud) ** 2), score.sum() / fraud.sum()))
        seconds = (time.process_time() - started) / len(weeks)
        ap, brier, expected = np.mean(reached, axis=0).tolist()
        rows += [
            Row(f"{imbalance}_ap", ap, ""),
            Row(f"{imbalance}_brier", brier, ""),
            Row(f"{imbalance}_expected_over_observed", expected, ""),
            Row(f"{imbalance}_seconds", seconds, "s of CPU a fold"),
        ]
    return report("imbalance", rows, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
