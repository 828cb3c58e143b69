"""All tables by name, and which of them are special. What is in one stands in the file of its subject."""

from __future__ import annotations

from fraud_assets.core.lineage.tables.backtest import backtest
from fraud_assets.core.lineage.tables.drift import drift_report
from fraud_assets.core.lineage.tables.evaluation import challenger_comparison, evaluation, evaluation_segments
from fraud_assets.core.lineage.tables.labels import delivered_labels, fraud_labels
from fraud_assets.core.lineage.tables.models import champion, fraud_bento, trained_model
from fraud_assets.core.lineage.tables.scores import model_performance, scored_transactions, serving_skew
from fraud_assets.core.lineage.tables.transactions import (
    quarantined_transactions,
    raw_transactions,
    transaction_features,
)

TABLES = {
    build.__name__: build
    for build in (
        raw_transactions, quarantined_transactions, delivered_labels, fraud_labels, transaction_features,
        drift_report, trained_model, evaluation_segments, evaluation, champion, fraud_bento, model_performance,
        serving_skew, challenger_comparison, backtest,
    )
}  # fmt: skip

# Written by the service, row by row, and by no run: it has neither months nor versions of them.
WRITTEN_ELSEWHERE = {"scored_transactions": scored_transactions}

# What was decided, and says nothing of rows: it can be made again when these are gone.
DECIDED = frozenset({"champion", "fraud_bento", "backtest"})

# Answers to a question, of all months at once: nothing is built on them, and a later month makes them no worse.
ON_REQUEST = frozenset({"backtest"})
