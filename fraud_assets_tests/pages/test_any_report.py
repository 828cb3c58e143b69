"""Every report that can be stored has a page: of any columns, of none, and where nothing could be looked at."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, date, datetime
from typing import Any, get_args

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.drift.findings import DRIFT_STATUSES, Cause, DriftKind, Finding
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.monitoring.month import MonthReport, drift_rows
from fraud_assets.core.monitoring.pictures import Pictures, draw, features_to_draw
from fraud_assets.core.monitoring.verdict import judge_month
from fraud_assets.pages.report import ReportFacts, monthly_report
from fraud_assets_tests.core.monitoring.test_drift_of_any_source import ATTRIBUTES, values_of
from fraud_assets_tests.core.monitoring.test_pictures import PICTURES, WORDS
from fraud_assets_tests.core.streams import Stream, contract_of
from fraud_assets_tests.pages.test_report import read, words

SCHEMAS = {name: TABLES[name](Contract.model_construct()).schema for name in ("drift_report", "evaluation")}
SHARES = ("missing_reference", "missing_current")
# No column of money, days or counts comes near; of two numbers near the largest, the difference is none.
LARGEST = 1e100
OPTIONAL: dict[str, Any] = {
    one.name: st.none() | (st.floats(0, 1) if one.name in SHARES else st.floats(-LARGEST, LARGEST))
    for one in fields(Finding)
    if one.type == "float | None"
}


def findings(statuses: tuple[str, ...]) -> st.SearchStrategy[list[Finding]]:
    return st.lists(
        st.builds(
            Finding,
            kind=st.sampled_from(get_args(DriftKind)),
            feature=WORDS | st.sampled_from(["amount", "score", "average_precision", "fraud_rate"]),
            method=WORDS,
            status=st.sampled_from(statuses),
            reason=WORDS,
            segment=st.none() | WORDS,
            cause=st.none() | st.sampled_from(get_args(Cause)),
            since=st.none() | st.dates(date(2025, 4, 1), date(2025, 4, 30)),
            n_reference=st.none() | st.integers(0, 10**9),
            n_current=st.none() | st.integers(0, 10**9),
            **OPTIONAL,
        ),
        max_size=6,
    )


def page_of(report: MonthReport, month: str, pictures: Pictures | None = None) -> str:
    drawn = report.pictures if pictures is None else pictures
    rows = drift_rows(replace(report, pictures=drawn), month, SCHEMAS["drift_report"], drawn.completeness)
    facts = ReportFacts(
        contract="any", currency=None, month=month, as_of=datetime(2025, 5, 1, tzinfo=UTC), rows=rows,
        evaluation=SCHEMAS["evaluation"].empty_table(), champion=None, inputs={}, platform="1.0",
    )  # fmt: skip
    html = monthly_report(facts)
    assert monthly_report(facts) == html
    read(html)  # every tag is closed
    return html


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    found=st.one_of(findings(DRIFT_STATUSES), findings(("INSUFFICIENT_DATA",)), st.just([])),
    pictures=PICTURES,
)
def test_any_stored_report_has_a_page_that_lists_all_that_was_looked_at(
    found: list[Finding], pictures: Pictures
) -> None:
    html = page_of(MonthReport(judge_month(found), tuple(found), None, None), "2025-04", pictures)
    everything = html.split("<h2>Everything that was looked at</h2>")[1]
    assert everything.count('<th scope="row">') == len(found)
    assert "stored before pictures were kept" not in html


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(
    attributes=ATTRIBUTES,
    rows=st.lists(st.one_of(st.integers(1, 200), st.just(0)), max_size=3),
    last=st.integers(1, 200),
    amount=st.booleans(),
)
def test_any_source_gives_a_page(
    attributes: list[tuple[str, str, bool]], rows: list[int], last: int, amount: bool
) -> None:
    """Of numbers, texts, dates, yes and no, that are empty, constant, new or missing; and of no column at all."""
    every = [*rows, last]
    month = f"2023-{len(every):02}"
    lines = {f"x{n}": f"type: {kind}, feature: false" for n, (kind, _, _) in enumerate(attributes)}
    values = {f"x{n}": values_of(kind, how, month) for n, (kind, how, _) in enumerate(attributes)}
    report = Stream(contract_of(lines, amount=amount), every, values).report()
    drawn = {one.feature for one in report.pictures.histograms}
    assert drawn <= set(features_to_draw(report.findings))
    html = page_of(report, month)
    for one in drawn:
        assert f"<h3><code>{one}</code>" in html


def test_yes_and_no_and_texts_that_moved_are_drawn_by_their_values() -> None:
    begun = datetime(2025, 3, 3, tzinfo=UTC)

    def side(month: int, share: int) -> pa.Table:
        moments = [begun.replace(month=month, day=1 + n // 100) for n in range(1400)]
        is_new = [n % 10 < share for n in range(1400)]
        return pa.table(
            {
                "event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")),
                "abroad": pa.array(is_new).cast(pa.string()),
                "channel": ["web" if one else "shop" for one in is_new],
            }
        )

    moved = [
        Finding(kind="covariate", feature=name, method="m", status="DRIFT", reason="r", psi=0.3)
        for name in ("abroad", "channel")
    ]
    pictures = draw(moved, side(3, 2), side(4, 6), None, DriftConfig())
    html = page_of(MonthReport(judge_month(moved), tuple(moved), None, None), "2025-04", pictures)
    for value in ("true", "web"):
        assert f"{value}: 20.0 % before, 60.0 % now" in html
    assert "20.0 %" in words(html)
