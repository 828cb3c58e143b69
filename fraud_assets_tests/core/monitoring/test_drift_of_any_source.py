"""The drift report of sources that nobody here knows: without a champion, small, empty, with gaps, of any columns."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.core.decisions.retraining import DriftSignal, ModelFacts, RetrainingPolicy, decide_retraining
from fraud_assets.core.drift.findings import DRIFT_STATUSES, Finding
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.monitoring.month import MonthReport, drift_rows, earlier_reports
from fraud_assets.core.monitoring.plan import EarlierReport
from fraud_assets.core.monitoring.verdict import in_sentences
from fraud_assets_tests.core.streams import FIRST, Rng, Stream, Values, contract_of
from fraud_assets_tests.sentences import texts


def found(report: MonthReport, feature: str, kind: str) -> Finding:
    (finding,) = [one for one in report.findings if (one.feature, one.kind) == (feature, kind)]
    return finding


def moved(report: MonthReport) -> set[tuple[str, str]]:
    return {(one.feature, one.kind) for one in report.findings if one.status in ("WATCH", "DRIFT")}


def channels(_month: str, rows: int, rng: Rng) -> list[Any]:
    return list(rng.choice(["web", "shop", "phone"], rows, p=[0.5, 0.3, 0.2]))


def plain(rows: list[int], **more: Any) -> Stream:
    return Stream(contract_of({"channel": "type: string"}), rows, {"channel": channels}, **more)


# Without a champion: what a person would see in the data is said, with what it comes from.


def test_without_a_champion_quiet_months_are_ok_and_say_what_they_were_compared_with() -> None:
    report = plain([300] * 5).report()
    assert (report.verdict.drift_status, report.verdict.blame) == ("OK", None)
    assert any(
        reason == "there is no champion yet, so the month was compared with the months before: 2023-02-01 to 2023-04-30"
        for reason in texts(report.verdict.reasons)
    )


def test_the_first_month_of_all_has_nothing_to_be_compared_with_and_says_so() -> None:
    report = plain([300] * 3).report(FIRST)
    assert report.verdict.drift_status == "INSUFFICIENT_DATA"
    assert texts(report.verdict.reasons) == (
        "there is no champion yet, and no earlier month is there that could be compared",
    )


def test_a_column_that_has_gone_empty_is_blamed_on_the_data() -> None:
    def gone(month: str, rows: int, rng: Rng) -> list[Any]:
        return [None] * rows if month == "2023-05" else list(rng.normal(0, 1, rows))

    for kind in ("type: number, feature: true", "type: number, feature: false"):
        report = Stream(contract_of({"x": kind}), [150] * 5, {"x": gone}).report()
        assert (report.verdict.drift_status, report.verdict.blame) == ("DRIFT", "data")
        finding = found(report, "x", "missing")
        assert finding.cause == "missing_values"
        assert "x has no value in 100.0 % of rows, 0.0 % before" in finding.reason


@pytest.mark.parametrize(("before", "now"), [("phone", "app"), ("phone", "web")])
def test_a_category_that_came_or_vanished_is_said(before: str, now: str) -> None:
    def replaced(month: str, rows: int, rng: Rng) -> list[Any]:
        given = channels(month, rows, rng)
        return [now if month == "2023-05" and one == before else one for one in given]

    report = Stream(contract_of({"channel": "type: string"}), [300] * 5, {"channel": replaced}).report()
    assert (report.verdict.drift_status, report.verdict.blame) == ("DRIFT", "world")
    said = in_sentences(report.verdict.blame, report.verdict.reasons, has_champion=False)
    assert said[0] == "the world changed: what a model learns from earlier months may not hold"
    assert moved(report) <= {("channel", "category"), ("channel", "covariate"), ("all_columns", "multivariate")}
    if now == "app":
        assert "channel has 1 new value in" in found(report, "channel", "category").reason


@pytest.mark.parametrize(("shares", "cause", "blame"), [
    # Fewer frauds may be frauds that are not reported: those who give the labels know.
    ([0.78, 0.78, 0.78, 0.78, 0.04], "few_labels", "labels"),
    ([0.04, 0.04, 0.04, 0.04, 0.78], "fraud_rate", "world"),
    ([0.30, 0.30, 0.30, 0.30, 1.00], "missing_rows", "data"),
    # A young platform, whose first weeks are not settled: so large a move is said.
    ([0.78, 0.78, 0.04, 0.04], "few_labels", "labels"),
])  # fmt: skip
def test_a_fraud_rate_that_is_another_is_said(shares: list[float], cause: str, blame: str) -> None:
    stream = plain([400] * len(shares), fraud=shares)
    report = stream.report()
    finding = found(report, "fraud_rate", "label")
    assert (finding.status, finding.cause) == ("DRIFT", cause)
    assert (report.verdict.drift_status, report.verdict.blame) == ("DRIFT", blame)


def test_nothing_but_frauds_is_said_and_is_no_drift() -> None:
    report = plain([400] * 5, fraud=1.0).report()
    assert report.verdict.drift_status == "OK"
    assert "all of them are frauds, as before" in found(report, "fraud_rate", "label").reason


# Gaps.


@pytest.mark.parametrize("rows", [0, 12])
def test_a_month_that_was_not_delivered_is_blamed_on_the_data_and_those_after_it_wait(rows: int) -> None:
    stream = plain([900] * 7 + [rows, 900, 900], ids=120)
    gap, after, later = stream.months[-3:]
    if rows:
        report = stream.report(gap)
        assert (report.verdict.drift_status, report.verdict.blame) == ("DRIFT", "data")
        assert found(report, "transactions", "missing").cause == "missing_rows"
        assert (
            "hardly any transactions were delivered of 2023-08-01 to 2023-08-31 (12 rows"
            in report.verdict.reasons[0].text
        )
    for month in (after, later):
        report = stream.report(month)
        assert report.verdict.drift_status == "OK", report.verdict.reasons
    # In September nothing that looks back is compared; in October, what looks back for a month.
    names = {one.feature for one in stream.report(after).findings}
    assert "amount" in names
    assert not any(name.startswith("customer_") for name in names)
    assert "2023-08-01 to 2023-08-31" in stream.report(after).verdict.reasons[-1].text
    assert "customer_count_7d" in {one.feature for one in stream.report(later).findings}


@pytest.mark.parametrize(
    ("first", "end", "status"),
    # The newest file often ends within its month, and is no broken feed; one that holds three days is no month.
    [("2023-05-20", "2023-06-01", "OK"), ("2023-05-10", "2023-05-20", "DRIFT"), ("2023-05-04", "2023-06-01", "DRIFT")],
)
def test_of_days_that_are_missing_those_at_the_end_are_a_remark(first: str, end: str, status: str) -> None:
    stream = plain([900] * 5)
    start, stop = (dt.datetime.fromisoformat(one).replace(tzinfo=dt.UTC) for one in (first, end))
    kept = np.array([not start <= one.as_py() < stop for one in stream.rows["event_timestamp"]])
    stream.rows = stream.rows.filter(kept)
    kept = np.array([not start <= one.as_py() < stop for one in stream.features["event_timestamp"]])
    stream.features = stream.features.filter(kept)
    report = stream.report()
    assert (report.verdict.drift_status, report.verdict.blame) == (status, "data" if status == "DRIFT" else None)
    last = f"{stop - dt.timedelta(days=1):%Y-%m-%d}"
    assert any(f"delivered of {first} to {last} (0 rows" in reason for reason in texts(report.verdict.reasons))


# Any columns.


def nothing(_month: str, rows: int, _rng: Rng) -> list[Any]:
    return [None] * rows


def ordinary(kind: str) -> Values:
    def make(_month: str, rows: int, rng: Rng) -> list[Any]:
        if kind == "string":
            return [f"v{one}" for one in rng.integers(0, 5, rows)]
        if kind == "boolean":
            return [bool(one) for one in rng.random(rows) < 0.3]
        if kind == "integer":
            return [int(one) for one in rng.integers(-3, 1000, rows)]
        if kind == "date":
            return [dt.date(1990, 1, 1) + dt.timedelta(days=int(one)) for one in rng.integers(0, 9000, rows)]
        return list(rng.normal(0, 100, rows))

    return make


CONSTANTS: dict[str, Any] = {
    "string": "only", "boolean": True, "integer": 7, "number": 0.5, "date": dt.date(2020, 2, 29),
}  # fmt: skip
OTHERS: dict[str, Any] = {
    "string": "other", "boolean": False, "integer": 10**12, "number": 1e30, "date": dt.date(1, 1, 1),
}  # fmt: skip


def in_last(change: Any, make: Values, last: str) -> Values:
    return lambda month, rows, rng: [change] * rows if month == last else make(month, rows, rng)


def values_of(kind: str, how: str, last: str) -> Values:
    """Values of a type that do what may happen to a column."""
    make = ordinary(kind)
    if how == "empty":
        return nothing
    if how == "constant":
        return lambda _month, rows, _rng: [CONSTANTS[kind]] * rows
    if how == "all new":
        return in_last(OTHERS[kind], make, last)
    if how == "all missing":
        return in_last(None, make, last)
    if how == "only now":
        return lambda month, rows, rng: make(month, rows, rng) if month == last else [None] * rows
    if how == "sparse":
        return lambda month, rows, rng: [one if rng.random() < 0.04 else None for one in make(month, rows, rng)]
    if how == "unique" and kind == "string":
        return lambda month, rows, _rng: [f"{month}{n}@mail.example" for n in range(rows)]
    return make


HOW = ("ordinary", "empty", "constant", "all new", "all missing", "only now", "sparse", "unique")
KINDS = ("string", "boolean", "integer", "number", "date")
ATTRIBUTES = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(HOW), st.booleans()), max_size=4)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    attributes=ATTRIBUTES,
    rows=st.lists(st.one_of(st.integers(1, 500), st.just(0)), min_size=0, max_size=5),
    last=st.integers(1, 500),
    fraud=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    entities=st.sampled_from([(), ("customer_id",), ("customer_id", "terminal_id")]),
    amount=st.booleans(),
    ids=st.sampled_from([1, 30, 10_000]),
)
def test_any_table_gives_a_report(
    attributes: list[tuple[str, str, bool]],
    rows: list[int],
    last: int,
    fraud: float,
    entities: tuple[str, ...],
    amount: bool,
    ids: int,
) -> None:
    every = [*rows, last]
    month = f"2023-{len(every):02}"
    # Texts and dates become features elsewhere; the report sees them either way.
    lines = {
        f"x{n}": f"type: {kind}, feature: {str(is_feature and kind not in ('string', 'date')).lower()}"
        for n, (kind, _, is_feature) in enumerate(attributes)
    }
    contract = contract_of(lines, entities=entities, amount=amount)
    values = {f"x{n}": values_of(kind, how, month) for n, (kind, how, _) in enumerate(attributes)}
    report = Stream(contract, every, values, fraud=fraud, ids=ids).report()
    assert report.verdict.drift_status in DRIFT_STATUSES
    assert (report.verdict.blame is None) == (report.verdict.drift_status in ("OK", "INSUFFICIENT_DATA"))
    assert all(texts(report.verdict.reasons))
    assert all(one.status in DRIFT_STATUSES and one.reason for one in report.findings)
    stored = drift_rows(report, month, TABLES["drift_report"](contract).schema)
    assert earlier_reports(stored) == {month: EarlierReport(None, report.verdict.drift_status, report.findings)}


@pytest.mark.parametrize("past", [1, 3])
def test_small_months_in_which_nothing_changed_are_hardly_ever_called_drift(past: int) -> None:
    kinds = {"s": "string", "b": "boolean", "i": "integer", "n": "number", "d": "date"}
    contract = contract_of({name: f"type: {kind}, feature: false" for name, kind in kinds.items()})
    values = {name: ordinary(kind) for name, kind in kinds.items()}
    said = [
        Stream(contract, [rows] * (past + 1), values, seed=seed, ids=30).report().verdict
        for rows in (40, 100, 250, 500)
        for seed in range(6)
    ]
    # 1 % of 24 months: none. For WATCH 5 %, and four are beyond it at one in two hundred.
    assert [one.reasons for one in said if one.drift_status == "DRIFT"] == []
    assert sum(one.drift_status == "WATCH" for one in said) <= 3


# ../shared/cases: drift-after-a-gap is above; these are drift-empty-column, and a column that is hardly ever there.


@pytest.mark.parametrize("share", [0.0, 0.04])
@pytest.mark.parametrize("is_feature", [True, False])
def test_a_column_that_is_never_or_hardly_ever_there_is_named_and_the_others_are_compared(
    share: float, is_feature: bool
) -> None:
    def rare(_month: str, rows: int, rng: Rng) -> list[Any]:
        return [round(float(rng.normal()), 3) if rng.random() < share else None for _ in range(rows)]

    columns = {"channel": "type: string", "extra": f"type: number, feature: {str(is_feature).lower()}"}
    stream = Stream(contract_of(columns), [900] * 6, {"channel": channels, "extra": rare}, ids=120)
    for month in stream.months[1:]:
        report = stream.report(month)
        assert report.verdict.drift_status == "OK", report.verdict.reasons
        finding = found(report, "extra", "covariate")
        if share:
            assert finding.status == "INSUFFICIENT_DATA"
            assert finding.reason in texts(report.verdict.reasons)
            assert "only its share of missing was looked at" in finding.reason
        else:
            assert finding.reason == "extra is missing in every row of both windows: nothing could move"
        # Three earlier months let the classifier look at all columns together, on which it failed.
        together = found(report, "all_columns", "multivariate")
        assert (together.status == "OK") == (month >= "2023-04")


def test_nothing_is_trained_because_of_a_gap() -> None:
    stream = plain([900] * 7 + [12, 900], ids=120)
    for month in stream.months[-2:]:
        verdict = stream.report(month).verdict
        assert not verdict.asks_for_retraining
        signal = DriftSignal(month, verdict.drift_status, "digest", verdict.blame)
        now = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        decision = decide_retraining(signal, (), RetrainingPolicy(), now=now, models=ModelFacts())
        assert (decision.decision, decision.trigger) == ("no", None)


def test_cards_that_expire_as_before_are_no_change_though_each_month_is_nearer_to_it() -> None:
    def expiries(_month: str, rows: int, rng: Rng) -> list[Any]:
        return [dt.date(2024, 6, 1) + dt.timedelta(days=int(one)) for one in rng.integers(0, 900, rows)]

    stream = Stream(contract_of({"expires": "type: date"}), [2_000] * 5, {"expires": expiries}, ids=500)
    for month in stream.months[2:]:
        report = stream.report(month)
        finding = found(report, "expires", "covariate")
        assert finding.status == "INSUFFICIENT_DATA"
        assert "its dates are still those of the reference, while time went on" in finding.reason
        assert report.verdict.drift_status == "OK", report.verdict.reasons
