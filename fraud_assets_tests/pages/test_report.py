"""The monthly report: what the page says, for whom it can be read, and that it knows nothing from later."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.drift.findings import Finding
from fraud_assets.core.drift.histograms import Histogram
from fraud_assets.core.labels.completeness import Completeness, DelayCurve, MonthCompleteness
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.models.scoring import ModelManifest
from fraud_assets.core.monitoring.month import MonthReport, drift_rows
from fraud_assets.core.monitoring.pictures import Pictures, features_to_draw
from fraud_assets.core.monitoring.verdict import Verdict, judge_month
from fraud_assets.core.windows import Window
from fraud_assets.pages.report import ChampionFacts, ReportFacts, monthly_report
from fraud_assets_tests.sentences import because

SCHEMAS = {name: TABLES[name](Contract.model_construct()).schema for name in ("drift_report", "evaluation")}
WINDOW = Window(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 3, 1, tzinfo=UTC))
ALL_OF_IT = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}

AMOUNT = Finding(
    kind="covariate", feature="amount", method="Rao-Scott chi-squared by day", status="DRIFT", cause="scaled",
    since=date(2025, 4, 3), reason="amount is higher by 30.0 % throughout", psi=0.21, jensen_shannon=0.14,
    p_adjusted=0.0001, median_reference=44.7, median_current=58.1,
)  # fmt: skip
QUIET = Finding(kind="covariate", feature="customer_count_7d", method="none", status="OK", reason="as ever", psi=0.001)
UNKNOWN = Finding(
    kind="covariate", feature="amount_90d", method="none", status="INSUFFICIENT_DATA", reason="its windows still fill"
)
EMPTY = Finding(
    kind="missing", feature="channel", method="none", status="DRIFT", cause="missing_values",
    reason="channel has no value in 40.0 % of rows", missing_reference=0.0, missing_current=0.4,
)  # fmt: skip


def realised(value: float, status: Any = "OK") -> Finding:
    return Finding(
        kind="concept", feature="average_precision", method="bootstrap", status=status, reason="as promised",
        value_reference=0.61, value_current=value, value_low=value - 0.05, value_high=value + 0.05,
    )  # fmt: skip


def report_rows(
    month: str,
    findings: Sequence[Finding],
    verdict: Verdict | None = None,
    version: int = 3,
    pictures: Pictures = Pictures(),  # noqa: B008 - frozen
) -> pa.Table:
    report = MonthReport(verdict or judge_month(findings), tuple(findings), version, WINDOW, pictures)
    return drift_rows(report, month, SCHEMAS["drift_report"], pictures.completeness)


def evaluation(month: date, average_precision: float) -> dict[str, Any]:
    instant = datetime(2025, 4, 1, tzinfo=UTC)
    return {
        "month": month, "role": "champion", "model_version": 3, "family": "logistic_regression",
        "trained_month": "2025-02", "as_of": instant, "window_from": instant, "window_to": instant, "n": 9000,
        "n_fraud": 80, "prevalence": 0.009, "alerts_per_day": 41.6, "average_precision": average_precision,
        "value_detection_rate": 0.8, "expected_cost": 1234.0,
    }  # fmt: skip


def facts(findings: Sequence[Finding] = (AMOUNT, QUIET, UNKNOWN), **changed: Any) -> ReportFacts:
    drawn = {one.name: changed.pop(one.name) for one in fields(Pictures) if one.name in changed}
    given: dict[str, Any] = {
        "contract": "cards", "currency": "EUR", "month": "2025-04", "as_of": datetime(2025, 5, 1, tzinfo=UTC),
        "rows": report_rows("2025-04", findings, pictures=Pictures(**drawn)),
        "evaluation": SCHEMAS["evaluation"].empty_table(), "champion": ChampionFacts(3, None, "2025-03"),
        "inputs": {}, "platform": "1.0",
    }  # fmt: skip
    return ReportFacts(**given | changed)


@dataclass
class Page(HTMLParser):
    """A page as a tree of what a test asks for."""

    text: list[str] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ALL_OF_IT:
            self.inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if not {"style", "head"} & set(self.inside) and data.strip():
            self.text.append(data.strip())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert not page.inside, f"left open: {page.inside}"
    return page


def words(html: str) -> str:
    return re.sub(r"\s+", " ", " ".join(read(html).text))


def section(html: str, heading: str) -> str:
    """The words of a section."""
    return words(html.split(f"<h2>{heading}</h2>")[1].split("<h2>")[0].split("</main>")[0])


def top(html: str) -> str:
    """The words of the verdict."""
    return words(html.split('<section class="verdict')[1].split("</section>")[0].split(">", 1)[1])


# What it says


def test_the_verdict_its_reasons_and_what_to_do_come_first() -> None:
    said = top(monthly_report(facts()))
    assert said.startswith("▲ DRIFT The world changed: another model may help. What to do: Look at what moved")
    assert "amount is higher by 30.0 % throughout" in said
    assert "First seen on 2025-04-03" in said


@pytest.mark.parametrize(
    ("findings", "told"),
    [
        pytest.param((EMPTY, AMOUNT), "Send this page to the owner of the feed.", id="data"),
        pytest.param((replace(QUIET, kind="label", status="DRIFT", cause="few_labels"),), "Ask those who", id="labels"),
        pytest.param((replace(AMOUNT, status="WATCH"),), "the next month decides", id="watch"),
        pytest.param((QUIET,), "What to do: Nothing.", id="quiet"),
        pytest.param((UNKNOWN,), "See what was lacking", id="unknown"),
    ],
)
def test_each_verdict_says_what_to_do(findings: tuple[Finding, ...], told: str) -> None:
    assert told in top(monthly_report(facts(findings)))


def test_reports_in_a_row_that_say_the_same_are_counted() -> None:
    months = [
        report_rows("2025-01", (AMOUNT,)),
        report_rows("2025-02", (QUIET,)),
        report_rows("2025-03", (AMOUNT,)),
        report_rows("2025-04", (AMOUNT,)),
    ]
    assert "The last 2 reports say so." in top(monthly_report(facts(rows=pa.concat_tables(months))))


def test_a_moved_feature_has_its_cause_its_figures_and_its_day() -> None:
    said = section(monthly_report(facts()), "What moved")
    assert "amount what comes in ▲ DRIFT all values by one factor 2025-04-03 44.7 58.1 0.210 0.140 < 0.001" in said


def test_what_could_not_be_looked_at_is_listed_with_the_reason() -> None:
    said = section(monthly_report(facts()), "What could not be looked at")
    assert said == "amount_90d (what comes in): its windows still fill"


def test_features_of_the_model_that_nothing_was_said_of_are_named() -> None:
    manifest = ModelManifest(
        model_name="fraud", model_version=3, trained_month="2025-02", as_of="2025-03-01T00:00:00+00:00",
        features=("amount", "is_weekend", "amount_180d"), threshold=0.2, family="logistic_regression",
        contract_yaml="", model_digest="0" * 64,
    )  # fmt: skip
    html = monthly_report(facts(champion=ChampionFacts(3, manifest, None)))
    said = section(html, "What could not be looked at")
    assert "is_weekend , amount_180d : not compared" in said
    many = manifest.model_copy(update={"features": tuple(f"feature_{which}" for which in range(200))})
    html = monthly_report(facts(champion=ChampionFacts(3, many, None)))
    assert "200 features of the model" in section(html, "What could not be looked at")


def test_an_evaluation_that_is_not_there_yet_is_not_passed_over() -> None:
    heading = "What it does to the model and to money"
    missing = "The evaluation of 2025-04 was not there when this page was made"
    older = pa.Table.from_pylist([evaluation(date(2025, 3, 1), 0.55)], schema=SCHEMAS["evaluation"])
    assert missing in section(monthly_report(facts(evaluation=older)), heading)
    there = pa.Table.from_pylist([evaluation(date(2025, 4, 1), 0.55)], schema=SCHEMAS["evaluation"])
    assert missing not in section(monthly_report(facts(evaluation=there)), heading)


def test_realised_figures_are_shown_with_the_promise_and_those_of_earlier_reports() -> None:
    months = [report_rows("2025-03", (realised(0.6),)), report_rows("2025-04", (realised(0.5, "WATCH"), AMOUNT))]
    said = section(monthly_report(facts(rows=pa.concat_tables(months))), "What it does to the model and to money")
    assert "2025-03: 0.6, 0.55 to 0.65, promised 0.61" in said
    assert "2025-04: 0.5, 0.45 to 0.55, promised 0.61" in said


def test_an_estimate_is_named_as_one() -> None:
    estimate = replace(realised(0.58), kind="estimate")
    said = section(monthly_report(facts((estimate,))), "What it does to the model and to money")
    assert "2025-04: 0.58 estimated, 0.53 to 0.63" in said


def test_an_interval_without_a_value_in_it_is_shown_as_not_known() -> None:
    estimate = replace(realised(0.58), kind="estimate", value_current=None)
    html = monthly_report(facts((estimate,)))
    assert "2025-04: 0.53 to 0.63, promised 0.61" in html
    assert "Average precision the model, estimated ✓ OK 0.61 - 0.53 to 0.63" in words(html)


def test_money_is_that_of_the_champion() -> None:
    rows = [evaluation(date(2025, 4, 1), 0.55), evaluation(date(2025, 4, 1), 0.11) | {"role": "reference"}]
    html = monthly_report(facts(evaluation=pa.Table.from_pylist(rows, schema=SCHEMAS["evaluation"])))
    said = section(html, "What it does to the model and to money")
    assert "2025-04 v3 9,000 80 80.0 % 1,234 42 0.55" in said
    assert "0.11" not in said
    assert "amounts in EUR" in said


def test_empty_columns_are_shown_with_both_shares() -> None:
    said = section(monthly_report(facts((EMPTY,))), "Missing values")
    assert "channel missing values ▲ DRIFT 0.0 % 40.0 %" in said


def test_labels_show_what_is_known_and_what_is_still_to_come() -> None:
    month = MonthCompleteness(
        "2025-04", datetime(2025, 5, 31, tzinfo=UTC), 9000, 100, 40, 0.5, 40.0, 28.0, 54.0, None, None
    )
    curve = DelayCurve(np.array([2.0, 9.0]), np.array([0.5, 1.0]))
    complete = Completeness(datetime(2025, 5, 1, tzinfo=UTC), (month,), curve, curve)
    html = monthly_report(facts(completeness=complete))
    assert "2025-04 provisional 9,000 40 50.0 % 40 (28 to 54)" in section(html, "Labels")
    assert "half of the frauds of months before are known within 2 days" in html


def test_a_month_without_a_champion_says_so_and_shows_nothing_it_does_not_know() -> None:
    nothing = Verdict("INSUFFICIENT_DATA", None, because("there is no champion yet"))
    rows = drift_rows(MonthReport(nothing, (), None, None), "2025-04", SCHEMAS["drift_report"])
    html = monthly_report(facts(rows=rows, champion=None))
    assert "? NOT ENOUGH DATA The month could not be compared." in top(html)
    assert "none was live when the month ended" in words(html)
    assert "no champion" in section(html, "Month by month")
    assert "svg" not in html.split("</style>")[1]


def test_a_month_that_was_stored_before_pictures_were_kept_says_so_and_how_they_are_made() -> None:
    rows = facts().rows.drop_columns(["pictures"])
    older = monthly_report(facts(rows=rows.append_column("pictures", pa.nulls(rows.num_rows, pa.string()))))
    assert "stored before pictures were kept" in section(older, "What moved")
    assert "fraud run --from 2025-04 --to 2025-04" in section(older, "What moved")
    assert "There are no labels yet" not in words(older)
    assert "stored before pictures were kept" not in words(monthly_report(facts()))


def test_rows_without_a_verdict_on_the_month_are_refused() -> None:
    with pytest.raises(ValueError, match="no verdict on 2025-05 among the rows: materialise its drift_report first"):
        monthly_report(facts(month="2025-05"))


def test_the_features_to_draw_are_those_that_moved_most_and_the_score() -> None:
    moved = [replace(AMOUNT, feature=f"f{which:02}", psi=which / 100) for which in range(1, 31)]
    found = features_to_draw([*moved, QUIET, UNKNOWN, EMPTY])
    assert found == (*(f"f{which}" for which in range(30, 18, -1)), "score")
    assert features_to_draw([AMOUNT, QUIET, UNKNOWN, EMPTY]) == ("amount", "score")


# What it does not know


def test_nothing_from_after_the_month_is_shown() -> None:
    later = [report_rows("2025-04", (AMOUNT,)), report_rows("2025-05", (realised(0.33), EMPTY), version=9)]
    rows = [evaluation(date(2025, 4, 1), 0.55), evaluation(date(2025, 5, 1), 0.22)]
    html = monthly_report(
        facts(rows=pa.concat_tables(later), evaluation=pa.Table.from_pylist(rows, schema=SCHEMAS["evaluation"]))
    )
    before = monthly_report(
        facts(rows=later[0], evaluation=pa.Table.from_pylist(rows[:1], schema=SCHEMAS["evaluation"]))
    )
    assert html == before


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = pa.concat_tables([report_rows("2025-03", (QUIET, EMPTY)), report_rows("2025-04", (AMOUNT, QUIET, EMPTY))])
    turned = rows.take(pa.array(range(rows.num_rows - 1, -1, -1)))
    assert monthly_report(facts(rows=rows)) == monthly_report(facts(rows=turned))


# Who can read it


FULL = facts(
    (AMOUNT, replace(AMOUNT, feature="amount_by_customer_id"), EMPTY, QUIET, UNKNOWN, realised(0.5)),
    histograms=[
        Histogram("amount", ("below 9", "9 and more"), (0.5, 0.5), (0.4, 0.6), 0.0, 0.1),
        Histogram(
            "amount_by_customer_id",
            ("0.00519 to 0.00626", "a very long name of a merchant"),
            (1.0, 0.0),
            (0.0, 1.0),
            0.0,
            0.0,
        ),
        Histogram("score", ("below 0.1", "0.1 and more"), (0.9, 0.1), (0.8, 0.2), 0.0, 0.0),
    ],
    flagged=(0.004, 0.006),
    evaluation=pa.Table.from_pylist([evaluation(date(2025, 4, 1), 0.55)], schema=SCHEMAS["evaluation"]),
)


def test_the_page_asks_for_nothing_and_runs_nothing() -> None:
    html = monthly_report(FULL)
    page = read(html)
    assert not {"script", "img", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("href", "src")]
    assert links == ["data:,"]
    assert "url(" not in html
    assert "@import" not in html
    assert {"http-equiv": "Content-Security-Policy"}.items() <= page.named("meta")[3].items()


def test_names_and_values_of_the_data_are_text_and_never_markup() -> None:
    odd = "<script>alert(1)</script>"
    histogram = Histogram(odd, (odd, '"><b>'), (0.5, 0.5), (0.4, 0.6), 0.0, 0.1)
    finding = replace(AMOUNT, feature=odd, segment=odd, reason=odd)
    html = monthly_report(facts((finding, replace(EMPTY, feature=odd)), histograms=[histogram], contract=odd))
    page = read(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "&lt;script&gt;" in html
    assert odd in words(html)


def test_the_page_has_a_language_a_title_and_headings_in_order() -> None:
    html = monthly_report(FULL)
    page = read(html)
    assert page.named("html") == [{"lang": "en"}]
    assert "<title>DRIFT 2025-04: drift report of cards</title>" in html
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(now - before <= 1 for before, now in pairwise(levels))


def test_tables_have_captions_pictures_have_words_and_scrolled_parts_have_names() -> None:
    page = read(monthly_report(FULL))
    assert len(page.named("table")) == len(page.named("caption")) > 3
    assert all("scope" in cell for cell in page.named("th"))
    pictures = page.named("svg")
    assert sum("aria-label" in one for one in pictures) >= 4
    assert all(one.get("aria-label") or one.get("aria-hidden") == "true" for one in pictures)
    scrolled = [one for one in page.named("div") if one.get("class") == "wide"]
    assert all(one["aria-label"] and one["tabindex"] == "0" for one in scrolled)


def test_letters_stand_out_from_their_ground_in_the_light_and_in_the_dark() -> None:
    """At least 4.5 to 1 (WCAG 2.2, success criterion 1.4.3)."""
    style = monthly_report(FULL).split("<style>")[1].split("</style>")[0]
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in re.findall(r":root \{(.*?)\}", style, re.S)]
    light, dark = (theme for theme in themes if theme)
    pairs = [(ink, ground) for ink in ("ink", "quiet") for ground in ("page", "panel")]
    pairs += [(name, f"{name}-back") for name in ("ok", "watch", "drift", "none")]
    pairs += [(ink, f"{name}-back") for ink in ("ink", "quiet") for name in ("ok", "watch", "drift", "none")]
    for theme in (light, dark):
        low = {pair: ratio for pair in pairs if (ratio := contrast(theme[pair[0]], theme[pair[1]])) < 4.5}
        assert not low


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_two_hundred_features_that_moved_are_folded_and_all_there() -> None:
    moved = [replace(AMOUNT, feature=f"feature_{which:03}", psi=which / 100) for which in range(200)]
    html = monthly_report(facts(moved))
    open_part, folded = html.split("<h2>What moved</h2>")[1].split("<details>", 1)
    assert open_part.count('<th scope="row">') == 25
    assert "175 more that moved" in folded
    everything = html.split("<h2>Everything that was looked at</h2>")[1]
    assert everything.count('<th scope="row">') == 200
    assert top(html).count("amount is higher") == 1
