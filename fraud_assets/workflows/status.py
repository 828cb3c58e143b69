"""What the platform stands at: what is live, since when and why, how good it is, what drift says, what is stale."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fraud_assets.adapters.people.removed import removed_in_words
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.postgres.run_processes import find_dead_runs
from fraud_assets.core.decisions.approval import Request
from fraud_assets.core.decisions.ledger import champion_event
from fraud_assets.core.decisions.truth import Disagreement
from fraud_assets.core.lineage.staleness import Stale, in_words
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.models.decision_rule import PROMISED, DecisionRule
from fraud_assets.core.models.live import LiveModel
from fraud_assets.core.monitoring.pictures import PICTURES
from fraud_assets.core.months import check_month
from fraud_assets.workflows.new_source.feed_check import feed_findings
from fraud_assets.workflows.why import newest_remarks

SHOWN_TABLES = ("raw_transactions", "transaction_features", "drift_report", "trained_model", "evaluation")


# One table of what status says, and the words for each entry; the arguments are what callers may have looked up.
def read_status(
    store: MonthStore,
    ledger: LedgerStore,
    stale: Sequence[Stale] = (),
    rule: Callable[[int], DecisionRule | None] | None = None,
    disagreements: Sequence[Disagreement] = (),
    requests: Sequence[Request] = (),
    scores: Mapping[str, Any] | None = None,
    live: LiveModel | None = None,
) -> dict[str, Any]:
    """The platform's state as plain values.

    Args:
        store: the tables.
        ledger: the ledger.
        stale: the stale months, as `refresh.py` finds them.
        rule: gives the decision rule of a version, for a champion whose month has been trained again since; it asks
            the registry, which takes seconds.
        disagreements: what does not say what the ledger says, as `models/truth.py` finds it.
        requests: what waits for a person's approval, as `models/approve.py` reads it.
        scores: how many scores are kept, as `scores.py` reads it.
        live: the model that is named for serving; the table of bentos follows with its next month.

    Returns:
        `contract`; `champion`, None when nothing is live, else with `version`, `since`, `month`, `reasons`, `model`
        (its training), `bento_tag`, `evaluation` and `reference` (the newest rows on the same window), and `decisions`:
        the `rule` in a sentence, and for each of alerts, recall, value and costs what was `promised`, what `came` of it
        in the newest evaluation, and the `share` of the promise that this is; `why`, what is not there, or not as it
        should be, in the newest month, and why (`core/decisions/why.py`); `drift`, the newest verdict or None;
        `decision`, the newest promotion decision or None; `months`, the stored months of each table; `removed`, which
        months lost their rows of people, in words; `stale`, for each stale month `table`, `month`, `changes` (what it
        was made of and has changed; none where it is only built on stale months) and `reasons` (both); `labels`, what
        is wrong with the label feed, by month; `dead_runs`, the runs that count as running and lost their process, each
        with `run_id`, `month`, `purpose` and a `sentence`; `disagreements`, what does not say what the ledger says,
        each with `subject` and `sentence`; `waiting`, the versions that wait for a person, each with `version`,
        `champion`, `month`, `since`, `until` and `reasons`; `scores`, how many are kept, wait and are lost.
    """
    return {
        "contract": store.contract.name,
        "champion": _champion(store, ledger, rule, live),
        "why": [remark.to_dict() for remark in newest_remarks(store)],
        "drift": _last(store, "drift_report", kind="verdict"),
        "decision": _last(store, "champion"),
        "months": {name: list(store.months(name)) for name in SHOWN_TABLES},
        "removed": removed_in_words(store.removed()),
        "stale": [as_row(one) for one in stale],
        "labels": feed_findings(store),
        "dead_runs": [
            {"run_id": one.run_id, "month": one.month, "purpose": one.purpose, "sentence": one.sentence}
            for one in find_dead_runs(store.database)
        ],
        "waiting": [
            {
                "version": one.model_version,
                "champion": one.champion_version,
                "month": one.month,
                "since": one.requested_at,
                "until": one.expires_at,
                "reasons": [reason.to_dict() for reason in one.reasons],
            }
            for one in requests
        ],
        "disagreements": [{"subject": one.subject, "sentence": one.sentence} for one in disagreements],
        "scores": dict(scores) if scores else None,
        "breaker": _breaker(store, ledger),
    }


def as_row(stale: Stale) -> dict[str, Any]:
    """A stale month as plain values; see `read_status`."""
    return {
        "table": stale.table,
        "month": stale.month,
        "changes": list(stale.changes),
        "reasons": list(stale.reasons),
    }


def read_versions(store: MonthStore, table: str, month: str | None) -> list[dict[str, Any]]:
    """Every version that a table's months have had, oldest first, each with what it was made of.

    Raises:
        ValueError: for a name that is no table, or a month that was never stored.
    """
    if table not in TABLES:
        raise ValueError(f"{table!r} is no table; there are {', '.join(TABLES)}")
    versions: list[dict[str, Any]] = store.versions(table, check_month(month) if month else None).to_pylist()
    if month and not versions:
        raise ValueError(f"{table} has no {month}; stored months: {in_words(store.months(table)) or 'none'}")
    return [row | {"inputs": json.loads(row["inputs"]) if row["inputs"] else None} for row in versions]


def find_damages(store: MonthStore, *, by_value: bool) -> dict[str, Any]:
    """The stored months whose rows are not those that were written.

    Args:
        store: the tables.
        by_value: compare every value; otherwise the numbers of rows alone.

    Returns:
        `months`, how many months of tables were looked at; `damages`, for each that is damaged `table`, `month` and
        what is wrong in a `sentence`.
    """
    damages = [
        {"table": name, "month": month, "sentence": sentence}
        for name in TABLES
        for month, sentence in store.damages(name, by_value=by_value).items()
    ]
    return {"months": len(store.current()), "damages": damages}


def read_drift(store: MonthStore, month: str | None) -> list[dict[str, Any]]:
    """The rows of a month's drift report, the verdict first; of the newest month when none is given."""
    month = reported_month(store, month)
    rows = _rows(store, "drift_report", month)
    gravity = {status: place for place, status in enumerate(("DRIFT", "WATCH", "INSUFFICIENT_DATA", "OK"))}
    return sorted(
        rows,
        key=lambda row: (row["kind"] != "verdict", gravity[row["drift_status"]], row["kind"], -(row["psi"] or 0.0)),
    )


def reported_month(store: MonthStore, month: str | None) -> str:
    """The month if it has a drift report; the newest that has one when none is given.

    Raises:
        ValueError: when there is none.
    """
    stored = list(store.months("drift_report"))
    if not stored or (month is not None and month not in stored):
        wanted = f"of {month} " if month else ""
        raise ValueError(f"there is no drift report {wanted}yet; stored months: {stored or 'none'}; use `fraud run`")
    return month or stored[-1]


def _breaker(store: MonthStore, ledger: LedgerStore) -> dict[str, Any] | None:
    """Since when and why the champion does not answer as it would."""
    live = champion_event(ledger.events())
    if live is None:
        return None
    newest = "SELECT event, recorded_at, mode, said FROM breaker_events WHERE model_version = %s ORDER BY number DESC"
    for event, since, mode, said in store.database.rows("breaker_events", newest, [live.model_version])[:1]:
        return {"since": since, "mode": mode, "said": said} if event == "opened" else None
    return None


def _champion(
    store: MonthStore, ledger: LedgerStore, rule: Callable[[int], DecisionRule | None] | None, live: LiveModel | None
) -> dict[str, Any] | None:
    event = champion_event(ledger.events())
    if event is None:
        return None
    version = event.model_version
    models = [row for row in store.read("trained_model").to_pylist() if row["model_version"] == version]
    evaluation = store.read("evaluation").to_pylist()
    # A champion that was promoted this month was judged as the challenger.
    judged = [row for row in evaluation if row["model_version"] == version and row["role"] != "reference"]
    reference = None
    if judged:
        month = judged[-1]["month"]
        reference = next((row for row in evaluation if row["month"] == month and row["role"] == "reference"), None)
    bentos = [row for row in store.read("fraud_bento").to_pylist() if row["model_version"] == version]
    tag = bentos[-1]["bento_tag"] if bentos else None
    if live is not None and live.model_version == version:
        tag = live.bento
    promised = models[-1] if models else None
    if promised is None and rule is not None and (kept := rule(version)) is not None:
        promised = kept.as_row()
    return {
        "version": version,
        "since": event.recorded_at,
        "month": event.month,
        "reasons": [one.to_dict() for one in event.reasons],
        "actor": event.actor,
        "model": models[-1] if models else None,
        "evaluation": judged[-1] if judged else None,
        "reference": reference,
        "decisions": _decisions(promised, judged[-1] if judged else None),
        "bento_tag": tag,
    }


def _decisions(promised: Mapping[str, Any] | None, came: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the threshold promised, and what came of it; None where it was never said or not judged yet."""
    figures = {}
    for name, (column, label) in PROMISED.items():
        one, other = _estimate(promised, f"promised_{name}"), _estimate(came, column)
        share = other["value"] / one["value"] if one and other and one["value"] else None
        figures[name] = {"label": label, "promised": one, "came": other, "share": share}
    return {"rule": promised["rule"] if promised else None, "figures": figures}


def _estimate(row: Mapping[str, Any] | None, column: str) -> dict[str, Any] | None:
    if row is None or row.get(column) is None:
        return None
    return {"value": row[column], "low": row[f"{column}_low"], "high": row[f"{column}_high"]}


def _last(store: MonthStore, name: str, kind: str | None = None) -> dict[str, Any] | None:
    stored = list(store.months(name))
    if not stored:
        return None
    rows = _rows(store, name, stored[-1])
    return next((row for row in rows if kind is None or row["kind"] == kind), None)


def _rows(store: MonthStore, name: str, month: str) -> list[dict[str, Any]]:
    """A month's rows, with reasons as plain values, and without what only the page of a report is drawn from."""
    columns = [column for column in store.table(name).schema.names if column != PICTURES]
    rows: list[dict[str, Any]] = store.read(name, columns, first_month=month, last_month=month).to_pylist()
    return [row | {name: json.loads(row[name]) for name in {"reasons"} & row.keys() if row[name]} for row in rows]
