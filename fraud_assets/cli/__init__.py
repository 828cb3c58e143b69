"""The `fraud` command, a file a group: it calls what Dagster calls, and prints what is stored."""

# In the order in which `fraud --help` lists them.
from fraud_assets.cli import start, months, reports, models, contracts, quarantine, labels  # noqa: I001
from fraud_assets.cli import servers, retraining, alerts
from fraud_assets.cli.guards import breaker, lists, rules
from fraud_assets.cli.rollout import challengers, replay
from fraud_assets.cli.upkeep import backup, database, keys, metrics, monthly, overview, people
from fraud_assets.cli.base import app

__all__ = [
    "alerts", "app", "backup", "breaker", "challengers", "contracts", "database", "keys", "labels", "lists", "metrics",
    "models", "monthly", "months", "overview", "people", "quarantine", "replay", "reports", "retraining", "rules",
    "servers", "start",
]  # fmt: skip
