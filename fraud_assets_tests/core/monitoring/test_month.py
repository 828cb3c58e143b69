"""Which months and columns a month's report looks at, and what is stored of it."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import Contract, parse_contract
from fraud_assets.core.drift.covariate import insufficient
from fraud_assets.core.drift.findings import Finding
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.lineage.needs import MonthRows, Needed
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.monitoring import month as monitoring
from fraud_assets.core.monitoring.deliveries import Gap, History
from fraud_assets.core.monitoring.month import MonthReport, drift_rows, earlier_reports, report_month
from fraud_assets.core.monitoring.plan import (
    Champion,
    EarlierReport,
    Subject,
    first_needs,
    own_months,
    past_months,
    plan_report,
)
from fraud_assets.core.monitoring.verdict import Verdict
from fraud_assets.core.months import months_between
from fraud_assets.core.reasons import reasons_from_json
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.core.windows import Window
from fraud_assets_tests.sentences import because, texts

TEXT = """
name: cards
first_month: 2016-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
entities:
  customer_id: {column: customer, type: integer}
amount: {column: amount, type: number}
label: {column: fraud, delay_days: 7}
maturity_days: 7
"""
CONTRACT = parse_contract(TEXT)
SCHEMA = TABLES["drift_report"](CONTRACT).schema


def day(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def report(status: str = "OK") -> EarlierReport:
    return EarlierReport(1, status, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("month", "reference", "earlier", "expected"),
    [
        # Whole months only: the reference begins within March.
        ("2018-07", ("2018-03-15", "2018-06-15"), {}, ["2018-04", "2018-05", "2018-06"]),
        ("2018-07", ("2018-03-01", "2018-06-15"), {}, ["2018-03", "2018-04", "2018-05", "2018-06"]),
        # Of an old champion the newest ones, and not from before its reference.
        ("2018-12", ("2018-01-01", "2018-03-31"), {}, [f"2018-{month:02}" for month in range(6, 12)]),
        ("2018-04", ("2018-03-05", "2018-03-28"), {}, []),
        # What drifted says nothing of quiet months; what was watched does.
        (
            "2018-07",
            ("2018-03-15", "2018-06-15"),
            {"2018-05": report("DRIFT"), "2018-06": report("WATCH")},
            ["2018-04", "2018-06"],
        ),
    ],
)
def test_past_months_are_whole_quiet_months_from_the_reference_s_beginning_on(
    month: str, reference: tuple[str, str], earlier: dict[str, EarlierReport], expected: list[str]
) -> None:
    window = Window(day(reference[0]), day(reference[1]))
    assert list(past_months(month, window, earlier, CONTRACT)) == expected


def test_a_stored_report_is_read_back_as_it_was() -> None:
    finding = Finding(
        kind="missing", feature="amount", segment="day=weekend", method="m", status="DRIFT", reason="r",
        cause="missing_values", since=dt.date(2018, 7, 3), n_current=5, p_adjusted=0.001, value_low=0.5,
    )  # fmt: skip
    whole = MonthReport(
        Verdict("DRIFT", "data", because("a", "b; c\n- d")), (finding,), 3, Window(day("2018-05-01"), day("2018-06-01"))
    )
    stored = drift_rows(whole, "2018-07", SCHEMA)
    assert earlier_reports(stored) == {"2018-07": EarlierReport(3, "DRIFT", (finding,))}
    (verdict,) = [row for row in stored.to_pylist() if row["kind"] == "verdict"]
    assert (verdict["blame"], verdict["reason"], verdict["reference_to"]) == ("data", "", "2018-06-01")
    assert reasons_from_json(verdict["reasons"]) == whole.verdict.reasons


def test_a_report_without_findings_is_read_back_as_one() -> None:
    stored = drift_rows(
        MonthReport(Verdict("INSUFFICIENT_DATA", None, because("no champion")), (), None, None), "2018-07", SCHEMA
    )
    assert earlier_reports(stored) == {"2018-07": EarlierReport(None, "INSUFFICIENT_DATA", ())}


# What is compared.

NAMES = feature_names(CONTRACT)
SHOPS = parse_contract(TEXT.replace("amount:", "  shop_id: {column: shop, type: integer}\namount:", 1))
EVERY = tuple(dict.fromkeys([*NAMES, *feature_names(SHOPS)]))
# A champion trained on rows from 14 February to the end of March 2018; the month under report is May.
TRAINING = Window(day("2018-02-14"), day("2018-03-31"))
OLD = day("2016-01-01")


NO_LABELS = CONTRACT.labels_schema().empty_table()


def rows_of(month: str) -> pa.Table:
    """One row a day, of one customer."""
    first = dt.date.fromisoformat(f"{month}-01")
    days = [first + dt.timedelta(days=n) for n in range(calendar.monthrange(first.year, first.month)[1])]
    moments = [dt.datetime(one.year, one.month, one.day, 12, tzinfo=dt.UTC) for one in days]
    return pa.table(
        {
            "transaction_id": [one.toordinal() for one in days],
            "event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")),
            "customer_id": [1] * len(days),
            "shop_id": [1] * len(days),
            **{name: np.ones(len(days), np.float32) for name in EVERY},
        }
    )


def champion(of_model: tuple[str, ...] = NAMES, training: Window | None = TRAINING) -> Champion:
    manifest = SimpleNamespace(
        model_version=1,
        features=of_model,
        threshold=0.2,
        training_from=training.start if training else None,
        training_to=training.end if training else None,
    )
    scorer: Any = SimpleNamespace(manifest=manifest, score=lambda rows: np.full(len(rows), 0.25))
    return Champion(scorer, None)


def asked_of(
    monkeypatch: pytest.MonkeyPatch,
    *,
    month: str = "2018-05",
    contract: Contract = CONTRACT,
    stored_from: str = "2016-01",
    first_event: dt.datetime = OLD,
    of_model: tuple[str, ...] = NAMES,
    earlier: dict[str, EarlierReport] | None = None,
    found: Finding | None = None,
    live: Champion | str | None = "as of_model",
) -> tuple[dict[str, Any], MonthReport, set[str]]:
    """What was measured, the report, and the months of whose features something was needed."""
    asked: dict[str, Any] = {}

    def load(needs: Sequence[Needed]) -> MonthRows:
        found = {}
        for need in needs:
            assert need.table in ("transaction_features", "raw_transactions", "fraud_labels")
            there = [rows_of(one) for one in months_between(max(need.first, stored_from), need.last)]
            rows = pa.concat_tables(there) if there else rows_of(need.last).slice(0, 0)
            found[need] = rows.select(list(need.columns)) if need.table != "fraud_labels" else NO_LABELS
        return MonthRows(found, contract)

    def measure(reference: pa.Table, current: pa.Table, **options: Any) -> tuple[Finding, ...]:
        asked.update(options, reference=reference, current=current)
        return (found or insufficient("not measured here"),)

    monkeypatch.setattr(monitoring, "measure_drift", measure)
    monkeypatch.setattr(monitoring, "outcome_findings", lambda **_: ())
    subject = Subject(
        month=month, current=rows_of(month), first_event=first_event,
        champion=champion(of_model) if isinstance(live, str) else live, earlier=earlier or {}, contract=contract,
    )  # fmt: skip
    rows = load(first_needs(subject))
    plan = plan_report(subject, rows)
    report = report_month(plan, rows | load(plan.needs), config=DriftConfig(), costs=Costs())
    of_features = [need for need in plan.needs if need.table == "transaction_features"]
    return asked, report, {one for need in of_features for one in months_between(need.first, need.last)}


def test_an_old_platform_compares_every_feature_the_columns_made_for_it_and_the_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, report, _ = asked_of(monkeypatch)
    assert "could not be compared yet" not in " ".join(texts(report.verdict.reasons))
    assert set(asked["features"]) == set(NAMES) - {"is_weekend"} | {"amount_over_recent_mean"}
    for table in (asked["reference"], asked["current"], *asked["past"]):
        assert table["score"].to_pylist() == [0.25] * table.num_rows


def test_a_young_platform_compares_what_was_full_44_days_after_its_first_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, report, _ = asked_of(monkeypatch, first_event=day("2018-01-01"))
    missed = set(NAMES) - set(asked["features"]) - {"is_weekend"}
    assert f"{len(missed)} features, and so scores, could not be compared yet" in report.verdict.reasons[-1].text
    assert set(asked["features"]) - {"hour"} == {
        "amount", "customer_count_1d", "customer_count_7d", "customer_count_30d",
        "customer_known_fraud_share_7d", "amount_over_recent_mean",
    }  # fmt: skip
    assert "score" not in asked["current"].column_names


def test_scores_follow_known_frauds_if_the_model_takes_features_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for of_model, expected in ((NAMES, True), (("amount", "customer_count_7d"), False)):
        asked, _, _ = asked_of(monkeypatch, of_model=of_model)
        assert ("score" in asked["of_labels"]) == expected
        assert "customer_known_fraud_share_7d" in asked["of_labels"]


def test_what_follows_the_number_of_rows_or_the_waves_of_fraud_is_not_looked_at_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together: dict[str, Any] = {}

    def looked_at(*_: pa.Table, **given: Any) -> Finding:
        together.update(given)
        return Finding(kind="multivariate", feature="all_columns", method="none", status="OK", reason="as ever")

    monkeypatch.setattr(monitoring, "domain_finding", looked_at)
    asked, _, _ = asked_of(monkeypatch)
    left_out = set(asked["features"]) - set(together["features"])
    assert left_out == asked["counting"] | asked["of_labels"] - {"score"}
    assert {"amount", "customer_amount_z", "amount_over_recent_mean"} <= set(together["features"])


def test_scores_are_compared_if_the_features_of_the_model_were_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _, _ = asked_of(monkeypatch, first_event=day("2018-01-01"), of_model=("amount", "customer_count_7d"))
    assert "score" in asked["current"].column_names


def test_the_windows_hold_their_own_days_and_nothing_from_after_the_month_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, report, months = asked_of(monkeypatch)
    # From 14 February to 30 March, both included; all of May; March and April tell how much months differ.
    assert [asked[side].num_rows for side in ("reference", "current")] == [45, 31]
    assert [table.num_rows for table in asked["past"]] == [31, 30]
    assert report.reference == TRAINING
    assert max(months) == "2018-04"


def test_of_the_years_since_an_old_champion_only_the_last_months_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _, months = asked_of(monkeypatch, month="2020-01")
    assert asked["reference"].num_rows == 45
    assert len(asked["past"]) == 6
    # The reference, the six months, and before each what the columns made for the report look back on.
    wanted = [("2018-01", "2018-03"), ("2019-05", "2019-12")]
    assert sorted(months) == [month for ends in wanted for month in months_between(*ends)]


def test_shops_are_called_new_only_where_the_month_before_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, _, _ = asked_of(monkeypatch, contract=SHOPS)
    assert "shop_id_new" in asked["features"]
    # The first month there is, of those that the reference needs, is its own.
    asked, _, _ = asked_of(monkeypatch, contract=SHOPS, stored_from="2018-02")
    assert "shop_id_new" not in asked["features"]
    assert "shop_id_new" not in asked["current"].column_names


def test_what_drifted_before_stays_drifted_while_it_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Finding(kind="covariate", feature="amount", method="m", status="WATCH", reason="amount moved")
    before = EarlierReport(1, "DRIFT", (replace(watched, status="DRIFT"),))
    _, report, _ = asked_of(monkeypatch, earlier={"2018-04": before}, found=watched)
    assert report.verdict.drift_status == "DRIFT"
    _, report, _ = asked_of(monkeypatch, earlier={"2018-04": replace(before, champion_version=7)}, found=watched)
    assert report.verdict.drift_status == "WATCH"


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (None, "there is no champion yet"),
        (champion(training=None), "champion version 1 does not say on what it was trained"),
        # Windows are full in April at the earliest.
        (champion(), "the training window of champion version 1 lies where features that look back are still filling"),
    ],
)
@pytest.mark.parametrize("month", ["2018-02", "2018-03"])
def test_without_a_champion_s_window_the_months_before_are_the_reference_and_the_first_month_has_none(
    monkeypatch: pytest.MonkeyPatch, live: Champion | None, words: str, month: str
) -> None:
    asked, report, _ = asked_of(
        monkeypatch, month=month, live=live, stored_from="2018-02", first_event=day("2018-02-01T12:00")
    )
    assert words in report.verdict.reasons[-1 - (month > "2018-02")].text
    if month == "2018-02":
        assert report.verdict.drift_status == "INSUFFICIENT_DATA"
        assert "no earlier month is there" in report.verdict.reasons[0].text
        assert report.reference is None
    else:
        assert report.reference == Window(day("2018-02-01"), day("2018-03-01"))
        assert asked["reference"].num_rows == 28
        # What looks back was still filling, and nothing else can be compared.
        assert set(asked["features"]) == {"hour", "amount"}
        assert "score" not in asked["current"].column_names


def with_status(status: str, cause: str | None = None) -> EarlierReport:
    finding = Finding(kind="missing", feature="amount", method="m", status=status, reason="r", cause=cause)  # type: ignore[arg-type]
    return EarlierReport(None, status, (finding,))  # type: ignore[arg-type]


def gap(first: str, end: str) -> Gap:
    return Gap(day(first), day(end), 12, 900)


@pytest.mark.parametrize(
    ("gaps", "earlier", "expected"),
    [
        ((), {}, ("2018-04-01", "2018-07-01")),
        # A change of the world is news once: without a model, the new world is what comes next is compared with.
        ((), {"2018-06": with_status("DRIFT", "scaled")}, ("2018-04-01", "2018-07-01")),
        ((), {"2018-06": with_status("DRIFT", "missing_values")}, ("2018-03-01", "2018-06-01")),
        ((), {f"2018-0{month}": with_status("DRIFT", "missing_values") for month in range(1, 7)},
         ("2018-04-01", "2018-07-01")),
        ((gap("2018-05-01", "2018-06-01"),), {}, ("2018-02-01", "2018-05-01")),
        ((gap("2018-03-05", "2018-03-20"),), {}, ("2018-04-01", "2018-07-01")),
        ((gap("2018-02-01", "2018-03-01"), gap("2018-05-01", "2018-06-01")), {}, ("2018-03-01", "2018-05-01")),
    ],
)  # fmt: skip
def test_the_platform_s_own_months_are_the_newest_that_were_delivered_as_usual(
    gaps: tuple[Gap, ...], earlier: dict[str, EarlierReport], expected: tuple[str, str]
) -> None:
    found = own_months("2018-07", History(OLD, gaps), earlier, CONTRACT)
    assert found == Window(day(expected[0]), day(expected[1]))
