"""What became known of the champion: which rows are taken, as known when, and what the kinds mean for each other."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.lineage.needs import MonthRows, Needed
from fraud_assets.core.models.scoring import feature_matrix
from fraud_assets.core.monitoring import outcomes
from fraud_assets.core.monitoring.outcomes import outcome_findings
from fraud_assets.core.months import shift_month
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.settings import PROJECT_ROOT

CONTRACT = load_contract(Path(PROJECT_ROOT) / "contracts" / "simulator.yaml")
FIRST, MONTH = "2025-01", "2025-06"
START, AS_OF = CONTRACT.month_start(MONTH), CONTRACT.month_end(MONTH)
DAY = dt.timedelta(days=1)
TIME = pa.timestamp("us", "UTC")


class Scorer:
    """Takes the feature `score` for the probability."""

    def __init__(self, trained_month="2025-03"):
        self.manifest = SimpleNamespace(
            trained_month=trained_month, model_version=3, features=("score",), threshold=0.2, metrics={}
        )

    def score(self, features):
        return feature_matrix(features, ("score",))[:, 0].astype(np.float64)


def world(fraud=lambda score, since: score, delay=lambda reported: 0.0, factor=1.0, rows_a_day=1000):
    """Half a year of transactions and a month more, with what is said about them, whenever it is said.

    Args:
        fraud: probability of each, given its score and days since the month under report began.
        delay: days that a report is late, given the day since then on which it would have come.
        factor: how long delays of the month's frauds are beside the usual ones.
        rows_a_day: transactions.
    """
    draws = np.random.default_rng(5)
    begin = CONTRACT.month_start(FIRST)
    n = (CONTRACT.month_end("2025-07") - begin) // DAY * rows_a_day
    score = np.where(draws.random(n) < 0.03, draws.uniform(0.2, 0.9, n), draws.uniform(0, 0.004, n))
    since = np.arange(n) / rows_a_day - (START - begin) / DAY
    y = draws.random(n) < fraud(score, since)
    usual = since + draws.lognormal(np.log(5), 0.5, n) * np.where(since >= 0, factor, 1.0)
    reported = usual + np.array([delay(day) for day in usual])
    moment = [START + DAY * float(day) for day in since]
    rows = pa.table(
        {
            "transaction_id": pa.array(np.arange(n)),
            "event_timestamp": pa.array(moment, TIME),
            "customer_id": draws.integers(0, 5000, n),
            "terminal_id": draws.integers(0, 2000, n),
            "amount": np.full(n, 50.0),
            "merchant_segment": np.array(["grocery", "travel"])[draws.integers(0, 2, n)],
            "score": score.astype(np.float32),
        }
    )
    known = pa.array([START + DAY * float(day) for day in reported[y]], TIME)
    statements = rows.select(["transaction_id", "event_timestamp", "customer_id", "terminal_id"]).filter(pa.array(y))
    statements = statements.append_column("is_fraud", pa.array([True] * len(statements)))
    statements = statements.append_column("label_timestamp", known)
    statements = statements.append_column("label_source", pa.array(["chargeback"] * len(statements)))
    return rows, statements, y


def months_of(table, column, first, last):
    start, end = (pa.scalar(at, TIME) for at in (CONTRACT.month_start(first), CONTRACT.month_end(last)))
    return table.filter(pc.and_(pc.greater_equal(table[column], start), pc.less(table[column], end)))


def findings(made, *, scorer=None, promise="kept", month=MONTH, drifted=(), contract=CONTRACT):
    rows, statements, y = made

    tables = {"fraud_labels": statements, "raw_transactions": rows, "transaction_features": rows}
    stored = {Needed(name, tuple(one.column_names), FIRST, "2025-07"): one for name, one in tables.items()}
    if promise == "kept":
        labelled = rows.append_column("is_fraud", pa.array(y))
        promise = months_of(labelled, "event_timestamp", "2025-03", "2025-03")
    return outcome_findings(
        month=month,
        scorer=scorer or Scorer(),
        promise=promise,
        current=months_of(rows, "event_timestamp", month, month),
        rows=MonthRows(stored, contract),
        contract=contract,
        costs=Costs(),
        drifted=drifted,
    )


def by_name(found):
    return {(one.kind, one.feature): one for one in found if one.segment is None}


@pytest.fixture(scope="module")
def calm():
    return world()


def test_in_a_calm_month_nothing_moves_and_every_kind_is_looked_at(calm):
    found = findings(calm)
    assert {one.kind for one in found} == {"label", "concept", "estimate"}
    assert {one.status for one in found} == {"OK"}


def test_realised_are_the_transactions_that_matured_in_the_month_and_no_others(calm):
    """Of 30 days from 18 May on; maturity is 14 days."""
    assert by_name(findings(calm))["concept", "average_precision"].n_current == 30_000


def test_transactions_from_before_the_champion_are_not_held_against_it(calm):
    """Trained at the end of May: 1 to 16 June."""
    found = by_name(findings(calm, scorer=Scorer(shift_month(MONTH, -1))))
    assert found["concept", "average_precision"].n_current == 16_000


def test_a_champion_of_the_month_itself_cannot_be_judged_yet(calm):
    found = by_name(findings(calm, scorer=Scorer(MONTH)))
    assert found["concept", "average_precision"].status == "INSUFFICIENT_DATA"
    assert found["label", "fraud_rate"].status == "OK"


def test_without_a_promise_each_kind_says_so(calm):
    found = findings(calm, promise=None)
    unknown = {(one.kind, one.feature) for one in found if one.status == "INSUFFICIENT_DATA"}
    assert {kind for kind, _ in unknown} == {"concept", "estimate"}
    assert all("version 3 promised was not kept" in one.reason for one in found if one.kind != "label")


def test_months_that_drifted_do_not_tell_what_is_usual(calm):
    months = [shift_month(MONTH, -back) for back in range(1, 7)]
    assert by_name(findings(calm, drifted=months))["label", "fraud_rate"].status == "INSUFFICIENT_DATA"
    assert by_name(findings(calm, drifted=months[:1]))["label", "fraud_rate"].status == "OK"


def test_a_feature_that_is_gone_is_named_and_labels_are_looked_at_anyway(calm):
    rows, *rest = calm
    found = findings((rows.rename_columns([*rows.column_names[:-1], "renamed"]), *rest), promise=rows)
    for one in found:
        assert one.status == ("OK" if one.kind == "label" else "INSUFFICIENT_DATA")
        assert one.kind == "label" or "lacks the features score" in one.reason


def test_labels_that_come_sooner_leave_the_champion_to_be_judged():
    sooner = world(lambda score, since: np.where(since > -14, np.maximum(score, 0.03), score), factor=0.5)
    found = by_name(findings(sooner))
    assert (found["label", "delay_days"].status, found["label", "delay_days"].cause) == ("WATCH", "label_delay")
    assert found["concept", "calibration"].status == "DRIFT"


def test_a_new_pattern_is_not_taken_for_more_of_the_same_fraud():
    found = by_name(findings(world(lambda score, since: np.where(since > -14, np.maximum(score, 0.03), score))))
    assert (found["concept", "calibration"].status, found["concept", "calibration"].cause) == ("DRIFT", "fraud_pattern")
    assert (found["label", "fraud_rate"].status, found["label", "fraud_rate"].cause) == ("DRIFT", "fraud_pattern")
    assert found["estimate", "average_precision"].status == "WATCH"


def test_a_champion_whose_probabilities_are_off_is_watched_while_labels_show_no_more_frauds(calm, monkeypatch):
    """Its validation had half of the frauds at the same scores, and the months have as many as ever."""
    rows, _, y = calm
    halved = rows.append_column("is_fraud", pa.array(y & (np.arange(len(y)) % 2 == 0)))
    promise = months_of(halved, "event_timestamp", "2025-03", "2025-03")
    # At first it is surely off, then not surely enough.
    for limit, expected in ((outcomes.UNCALIBRATED_P, ("WATCH", "fraud_rate")), (1e-300, ("OK", None))):
        monkeypatch.setattr(outcomes, "UNCALIBRATED_P", limit)
        found = by_name(findings(calm, promise=promise))
        assert found["label", "fraud_rate"].status == "OK"
        calibration = found["concept", "calibration"]
        assert (calibration.status, calibration.cause) == expected
        assert "there are no more frauds than before, so it may be the champion's calibration" in calibration.reason


def test_late_labels_are_not_blamed_on_the_champion():
    found = by_name(findings(world(delay=lambda reported: 14.0 if reported >= 0 else 0.0)))
    assert (found["label", "delay_days"].status, found["label", "delay_days"].cause) == ("DRIFT", "label_delay")
    assert {one.status for name, one in found.items() if name[0] == "concept"} <= {"OK", "INSUFFICIENT_DATA"}
    assert found["estimate", "average_precision"].value_current is None


def test_what_happens_or_is_said_after_the_month_changes_nothing(calm):
    rows, statements, y = calm
    later = pc.greater_equal(statements["label_timestamp"], pa.scalar(AS_OF, TIME))
    until = pc.less(rows["event_timestamp"], pa.scalar(AS_OF, TIME))
    assert pc.any(later).as_py()
    known = rows.filter(until), statements.filter(pc.invert(later)), y[until.to_numpy()]
    assert findings(known) == findings(calm)


def test_in_a_platform_s_first_month_each_kind_says_what_is_missing(calm):
    found = findings(calm, month=FIRST, promise=None)
    assert {one.kind for one in found} == {"label", "concept", "estimate"}
    assert {one.status for one in found} == {"INSUFFICIENT_DATA"}


INVESTIGATED = CONTRACT.model_copy(update={"label": CONTRACT.label.model_copy(update={"blank": "unknown"})})


def test_where_blanks_are_unknown_rates_are_those_of_what_is_known_and_nothing_is_expected(calm):
    """Every second transaction is cleared a week later; frauds are reported as ever."""
    rows, statements, y = calm
    cleared = ~y & (np.arange(len(y)) % 2 == 0)
    genuine = rows.select(["transaction_id", "event_timestamp", "customer_id", "terminal_id"]).filter(pa.array(cleared))
    genuine = genuine.append_column("is_fraud", pa.array([False] * len(genuine)))
    genuine = genuine.append_column("label_timestamp", pc.add(genuine["event_timestamp"], pa.scalar(7 * DAY)))
    genuine = genuine.append_column("label_source", pa.array(["analyst"] * len(genuine)))
    together = pa.concat_tables([statements, genuine.cast(statements.schema)])
    found, before = by_name(findings((rows, together, y), contract=INVESTIGATED)), by_name(findings(calm))
    rate, of_all = found["label", "fraud_rate"], before["label", "fraud_rate"]
    assert rate.value_current == pytest.approx(2 * of_all.value_current, rel=0.05)
    assert rate.status == "OK"
    assert found["label", "known_frauds"].status == "INSUFFICIENT_DATA"
    assert "nobody did" in found["label", "known_frauds"].reason
    assert {one.status for (kind, _), one in found.items() if kind == "estimate"} == {"INSUFFICIENT_DATA"}


def test_where_blanks_are_unknown_and_nothing_is_stated_that_is_said(calm):
    rows, statements, y = calm
    found = by_name(findings((rows, statements.slice(0, 0), y), contract=INVESTIGATED))
    assert "no label is known" in found["label", "fraud_rate"].reason
