"""Scores that the service keeps: what it needs for that, how many there are, and what became of a month's.

Here they are read and put together with what is known of them; what is made of that belongs to `core/performance`.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from fraud_assets.adapters.people.key import KEY_VARIABLE
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.scores.spool import spooled_bytes
from fraud_assets.adapters.scores.state import read_states
from fraud_assets.adapters.scores.stored import StoredScores
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.lineage.configuration import setting_inputs
from fraud_assets.core.lineage.staleness import Inputs, drawn_inputs, scores_inputs
from fraud_assets.core.months import months_between
from fraud_assets.core.performance.realised import ALL, realised_rows
from fraud_assets.core.performance.serving_skew import Skew
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.windows import Window, matured_window
from fraud_assets.settings import Settings

MEGABYTE = 2**20


def scores_environment(settings: Settings) -> dict[str, str]:
    """The variables by which a service knows where it keeps scores, and what it lets through.

    Raises:
        ValueError: when something is to be let through, and nobody said up to which amount.
        OSError: when the secret cannot be written.
    """
    environment = {
        "FRAUD_SCORES_FOLDER": str(settings.scores_path),
        "FRAUD_SCORES_SPOOL_MB": str(settings.scores_spool_mb),
        "FRAUD_PASS_THROUGH": str(settings.pass_through),
        "FRAUD_SHADOW_SECONDS": str(settings.shadow_seconds),
        "FRAUD_SHADOW_BEHIND": str(settings.shadow_behind),
        KEY_VARIABLE: str(settings.erasure_key_file),
    }
    if not settings.pass_through:
        return environment
    if settings.pass_through_amount is not None:
        environment["FRAUD_PASS_THROUGH_AMOUNT"] = str(settings.pass_through_amount)
    elif settings.loaded_contract.amount:
        raise ValueError(
            f"FRAUD_PASS_THROUGH is {settings.pass_through:g}: say with FRAUD_PASS_THROUGH_AMOUNT which is the largest "
            "amount that is let through"
        )
    given = settings.pass_through_seed
    environment["FRAUD_PASS_THROUGH_SEED"] = (
        _own_seed(settings.pass_through_seed_file) if given is None else given.get_secret_value()
    )
    return environment


def _own_seed(file: Path) -> str:
    """The secret in a file, which is made where there is none: another one would choose others."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text(encoding="ascii")
    with os.fdopen(handle, "w", encoding="ascii") as output:
        output.write(secrets.token_hex(32))
    return file.read_text(encoding="ascii")


def read_kept(store: MonthStore, folder: Path) -> dict[str, Any] | None:
    """How many scores are kept, wait or are lost.

    Args:
        store: the tables.
        folder: of those that wait.

    Returns:
        `month`, the newest with scores, `n_rows` and `last_scored_at` of it, None without any; `waiting`, scores of
        running services that the database does not have, and `spool_bytes`, what is on disk; `lost`, how many are
        nowhere, by reason, and `last_lost_at`; `error`, why the database takes none; all of it in a `sentence`. None
        where no score was ever kept here.
    """
    newest = store.database.rows(
        "scored_months", "SELECT month, n_rows, last_scored_at FROM scored_months ORDER BY month DESC LIMIT 1"
    )
    state, _ = read_states(folder)
    size = spooled_bytes(folder)
    if not newest and not size and not state.waiting and not state.n_lost:
        return None
    month, n_rows, last = newest[0] if newest else (None, 0, None)
    found = {
        "month": month, "n_rows": n_rows, "last_scored_at": last, "waiting": state.waiting, "spool_bytes": size,
        "lost": dict(state.lost), "last_lost_at": state.last_lost_at, "error": state.error, "refused": state.refused,
    }  # fmt: skip
    return found | {"sentence": _in_words(found)}


def _in_words(found: dict[str, Any]) -> str:
    last = found["last_scored_at"]
    said = ["Scores: none is in the database yet"]
    if last is not None:
        said = [f"Scores: {found['n_rows']:,} of {found['month']} are kept, the last of {last:%Y-%m-%d %H:%M} UTC"]
    if found["waiting"] or found["spool_bytes"]:
        why = f" ({found['error']})" if found["error"] else ""
        said.append(f"{found['waiting']:,} wait, {found['spool_bytes'] / MEGABYTE:.1f} MB on disk{why}")
    if found["lost"]:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(found["lost"].items()))
        n_lost, at = sum(found["lost"].values()), found["last_lost_at"]
        said.append(f"{n_lost:,} are lost ({reasons}), the last at {at:%Y-%m-%d %H:%M} UTC")
    if found["refused"]:
        said.append(f"{found['refused']:,} were refused by the database")
    return "; ".join(said)


# What became of a month's


@dataclass(frozen=True)
class FoundMonth:
    """A month of a table that is made of scores.

    Attributes:
        rows: of the table.
        inputs: what it was made of.
        outcome: in a sentence.
        figures: further ones to show.
    """

    rows: pa.Table
    inputs: tuple[pa.Table | Inputs, ...]
    outcome: str
    figures: Mapping[str, Any] = field(default_factory=dict)


def realised_month(store: MonthStore, month: str, costs: Costs) -> FoundMonth:
    """How each version did on the transactions that matured in a month; empty where none of them was scored.

    Raises:
        TableError: when there are scores, and the month's labels were never gathered.
    """
    contract, table = store.contract, store.table("model_performance")
    window = matured_window(month, contract.maturity_days, contract.zone)
    end = contract.month_end(month)
    made = scores_inputs(_counts_of(store, Window(window.start, end)))
    scores = StoredScores(store.database, contract).read(window.start, end)
    if not scores.num_rows:
        return FoundMonth(table.schema.empty_table(), (made,), _no_scores(contract, window.start, end))
    store.require("fraud_labels", month)
    statements = store.read("fraud_labels", first_month=contract.month_of(window.start), last_month=month)
    labels = labels_as_of(scores, statements, end, maturity_days=contract.maturity_days, blank=contract.label.blank)
    rows = realised_rows(scores, labels, contract, month=month, window=window, costs=costs, schema=table.schema)
    whole = [row for row in rows.to_pylist() if row["segment"] == ALL]
    said = [
        f"version {row['model_version']}: {row['n']:,} scored, {row['n_labelled']:,} of them labelled, "
        f"{row['n_fraud']:,} frauds"
        for row in whole
    ]
    outcome = "; ".join(said) or "nothing that was scored has matured yet"
    figures = {
        f"average_precision_v{row['model_version']}": row["average_precision"]
        for row in whole
        if row["average_precision"] is not None
    }
    return FoundMonth(rows, (made, statements, setting_inputs("costs", costs)), outcome, figures)


def drawn_in(store: MonthStore, first: str, last: str) -> tuple[pa.Table | None, Inputs]:
    """What could be let through at random in some months, None without any; and that as an input of training."""
    contract = store.contract
    drawn = StoredScores(store.database, contract).drawn(contract.month_start(first), contract.month_end(last))
    if not drawn.num_rows:
        return None, {}
    counts = Counter(contract.month_of(moment) for moment in drawn["event_timestamp"].to_pylist())
    return drawn, drawn_inputs(counts)


def skewed_month(store: MonthStore, month: str) -> FoundMonth:
    """Features of the scores of a month beside the batch's; empty where nothing was scored.

    Raises:
        TableError: when there are scores, and the month's features were never made.
    """
    contract, table = store.contract, store.table("serving_skew")
    start, end = contract.month_start(month), contract.month_end(month)
    stored = StoredScores(store.database, contract)
    made = scores_inputs(_counts_of(store, Window(start, end)))
    names = stored.names(start, end)
    if not names:
        return FoundMonth(table.schema.empty_table(), (made,), _no_scores(contract, start, end))
    store.require("transaction_features", month)
    schema = store.table("transaction_features").schema
    wanted = {name for own in names.values() for name in own}
    fields = [one for one in schema if one.name in wanted]
    columns = ["transaction_id", "event_timestamp", *(one.name for one in fields)]
    batch = store.read("transaction_features", list(dict.fromkeys(columns)), first_month=month, last_month=month)
    skew = Skew(batch, names)
    # A day at a time: with its names, a feature takes several times the memory of its value.
    day = start
    while day < end:
        skew.add(stored.features(day, min(day + timedelta(days=1), end), fields))
        day += timedelta(days=1)
    rows = skew.rows(month, table.schema)
    n_matched = {row["model_version"]: row["n_matched"] for row in rows.to_pylist()}
    said = [f"version {version}: {n:,} transactions compared" for version, n in n_matched.items()]
    return FoundMonth(rows, (made, batch), "; ".join(said))


def _counts_of(store: MonthStore, window: Window) -> dict[str, int | None]:
    """How many scores there are of each month of a window."""
    counts, contract = StoredScores(store.database, store.contract).counts(), store.contract
    first, last = contract.month_of(window.start), contract.month_of(window.end)
    months = months_between(max(first, contract.first_month), last)
    return {month: counts.get(month) for month in months if contract.month_start(month) < window.end}


def _no_scores(contract: Contract, start: datetime, end: datetime) -> str:
    begin, last = (moment.astimezone(contract.zone) for moment in (start, end))
    return (
        f"no score was kept of a transaction from {begin:%Y-%m-%d} until {last:%Y-%m-%d}: the service keeps those that "
        "it gives (`fraud serve`)"
    )
