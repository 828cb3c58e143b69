"""A model's card from made-up facts: what it says, for any source, and that names from outside stay text."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from fraud_assets.core.contracts.contract import Contract, parse_contract
from fraud_assets.core.decisions.ledger import Event
from fraud_assets.core.evaluation.thresholds import Flagging, calibration_bins, threshold_rows
from fraud_assets.core.explanations.behaviour import Behaviour, Point
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.models.decision_rule import DecisionRule, Estimate
from fraud_assets.core.models.encoding import Encoder, TextEncoding
from fraud_assets.core.models.scoring import ModelManifest
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.pages.cards import CardFacts, Cells, as_html, as_markdown, model_card

CARDS = """
name: cards
first_month: 2025-01
event_timestamp: {column: time}
entities:
  card_id: {column: card, type: string}
amount: {column: amount, type: number, unit: EUR}
attributes:
  segment: {column: segment, type: string}
label: {column: fraud, delay_days: 7}
maturity_days: 30
"""
FLAT = """
name: flat
first_month: 2025-01
event_timestamp: {column: time}
attributes:
  risk: {column: "<b>Größe|*x*</b>", type: number}
  segment: {column: segment, type: string}
label: {column: fraud, delay_days: 7}
maturity_days: 30
"""
NASTY = "<script>alert(1)</script>|*a*_b_`c`[d](e)"
AT = datetime(2025, 4, 1, tzinfo=UTC)


def rule(**changes: Any) -> DecisionRule:
    some = {"value": 10.0, "low": 8.0, "high": 12.0}
    given = {
        "threshold": 0.25, "sentence": "The threshold has the lowest expected cost.", "review_capacity": 100,
        "review_cost": 5, "loss_share": 1, "fixed_loss": 100, "n": 1000, "n_fraud": 50, "n_days": 28,
        "alerts_per_day": Estimate(**some), "recall": Estimate(value=0.8), "expected_cost": Estimate(**some),
        "value_detection_rate": Estimate(value=0.9, low=0.8, high=0.95), "cost_without_review": Estimate(**some),
    }  # fmt: skip
    return DecisionRule(**(given | changes))


def manifest_of(text: str, numbers: tuple[str, ...], **changes: Any) -> ModelManifest:
    encoder = Encoder(numbers, (TextEncoding("segment", own=(NASTY,)),), {"name": "has a value of its own in each row"})
    given = {
        "model_name": "fraud", "model_version": 3, "trained_month": "2025-03", "as_of": AT.isoformat(),
        "features": encoder.inputs, "encoder": encoder, "threshold": 0.25, "family": "hist_gradient_boosting",
        "contract_yaml": text, "model_digest": "a" * 64, "rule": rule(),
        "metrics": {"validation_average_precision": 0.8, "validation_brier": 0.01, "validation_n_fraud": 60.0},
        "training_from": datetime(2025, 1, 1, tzinfo=UTC), "training_to": datetime(2025, 3, 1, tzinfo=UTC),
    }  # fmt: skip
    return ModelManifest(**(given | changes))


def evaluated(contract: Contract, *, amounts: bool) -> list[dict[str, Any]]:
    names = TABLES["evaluation"](contract).schema.names
    rows = []
    for month in (date(2025, 5, 1), date(2025, 6, 1)):
        for role, version, found in (("champion", 2, 0.7), ("challenger", 3, 0.75), ("reference", 3, 0.6)):
            row = dict.fromkeys(names) | {
                "month": month, "role": role, "model_version": version, "n": 9000, "n_fraud": 90, "prevalence": 0.01,
                "window_from": AT, "window_to": datetime(2025, 5, 2, tzinfo=UTC), "average_precision": found,
                "average_precision_low": found - 0.05, "average_precision_high": found + 0.05, "roc_auc": 0.9,
                "expected_cost": 1234.0,
            }  # fmt: skip
            rows.append(row | ({"value_detection_rate": 0.5} if amounts else {}))
    return rows


def segment(value: str, found: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "month": date(2025, 6, 1), "segment": "segment", "value": value, "value_range": None, "n": 100, "n_fraud": 9,
        "prevalence": 0.09, "average_precision": found, "average_precision_low": found, "average_precision_high": found,
        "reason": None if found is not None else "9 frauds are too few", "n_flagged": 4, "recall_at_threshold": 0.5,
        "precision_at_threshold": 0.5, "expected_over_observed": 1.1,
    } | changes  # fmt: skip


def facts_of(text: str = CARDS) -> CardFacts:
    contract = parse_contract(text)
    amounts = contract.amount is not None
    manifest = manifest_of(text, ("hour", "amount") if amounts else ("hour", "risk"))
    if not amounts:
        manifest = manifest.model_copy(update={"rule": rule(value_detection_rate=None)})
    generator = np.random.default_rng(1)
    score = generator.beta(0.3, 6, 4000)
    y = generator.random(4000) < score
    flagging = Flagging.of(
        y, score, cards=None, days=np.arange(4000) // 200, amount=score * 100 if amounts else None, costs=Costs()
    )
    because = (Reason(Rule.TRAINED, f"it was best, {NASTY}"),)
    events = [
        Event(
            1, AT, "registered", 3, "2025-03", because, "dagster run 1", {"transaction_features": {"2025-01": "b" * 64}}
        ),
        Event(2, AT, "promoted", 3, "2025-06", because, "dagster run 2"),
    ]
    verdict = {"drift_status": "WATCH", "blame": None, "reasons": "[]", "champion_version": 2}
    curve = (Point(NASTY, 0.3), Point("b", 0.1), Point(None, 0.2))
    return CardFacts(
        contract=contract,
        manifest=manifest,
        setting="hist_gradient_boosting (15 leaves) had the best validation AP, 0.800",
        n=100_000,
        n_fraud=900,
        events=events,
        evaluation=evaluated(contract, amounts=amounts),
        segments=[segment(NASTY, 0.9), segment("weak", 0.2), segment("rare", None)],
        calibration=calibration_bins(y, score, None),
        choices=threshold_rows(flagging, manifest.threshold),
        behaviour=Behaviour("2025-03", 1000, "log_odds", {"segment": 1.5, "hour": 0.0}, {"segment": curve}),
        verdicts={
            "2025-04": verdict,
            "2025-05": verdict | {"drift_status": "INSUFFICIENT_DATA", "champion_version": None},
        },
        platform="0.1.0",
    )


def bare(facts: CardFacts) -> CardFacts:
    """The same of a version about which nothing else is stored."""
    manifest = facts.manifest.model_copy(
        update={"rule": None, "metrics": {}, "training_from": None, "training_to": None, "encoder": None}
    )
    return replace(
        facts, manifest=manifest, setting=None, n=None, n_fraud=None, events=[], evaluation=[], segments=[],
        calibration=None, choices=[], behaviour=None, verdicts={},
    )  # fmt: skip


class Tags(HTMLParser):
    """The tags of a page, opened and not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", [CARDS, FLAT], ids=["cards", "flat"])
@pytest.mark.parametrize("strip", [False, True], ids=["full", "bare"])
def test_every_card_is_a_whole_page_and_names_from_outside_stay_text(text: str, strip: bool) -> None:
    facts = bare(facts_of(text)) if strip else facts_of(text)
    page = as_html(model_card(facts))
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not {"script", "b", "i", "a", "img", "iframe"} & tags.seen
    assert "nan" not in re.findall(r"[a-z]+", tags.text.lower().replace("nanny", ""))
    assert "None" not in tags.text
    if not strip:
        assert NASTY in tags.text
    # Nothing is fetched, from anywhere.
    assert not re.search(r"(src|href)=\"(?!data:)", page)


@pytest.mark.parametrize("text", [CARDS, FLAT], ids=["cards", "flat"])
@pytest.mark.parametrize("strip", [False, True], ids=["full", "bare"])
def test_the_markdown_says_the_same_and_names_in_it_are_no_markup(text: str, strip: bool) -> None:
    facts = bare(facts_of(text)) if strip else facts_of(text)
    card = model_card(facts)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(as_markdown(card))
    kinds = {token.type for token in tokens}
    inline = {child.type for token in tokens for child in token.children or ()}
    assert not kinds & {"html_block", "fence", "code_block"}
    assert inline <= {"text", "strong_open", "strong_close", "softbreak"}, inline
    told = "".join(child.content for token in tokens for child in token.children or ())
    for section in card.sections:
        assert section.title in told
        for cells in [*section.tables, *(one.cells for one in section.figures if one.cells)]:
            for row in cells.rows:
                assert all(" ".join(cell.split()) in told for cell in row)
    tables = sum(len(section.tables) + sum(1 for one in section.figures if one.cells) for section in card.sections)
    assert sum(token.type == "table_open" for token in tokens) == tables


def cells(facts: CardFacts, title: str, table: int = 0) -> Cells:
    (section,) = [one for one in model_card(facts).sections if one.title == title]
    return section.tables[table]


def test_the_version_stands_beside_champion_and_reference_with_intervals() -> None:
    found = cells(facts_of(), "How good it is on later transactions")
    assert found.columns == ("What", "champion v2", "challenger v3", "reference v3")
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["Average precision (by chance: the share of frauds)"] == (
        "0.7 [0.65, 0.75]", "0.75 [0.7, 0.8]", "0.6 [0.55, 0.65]"
    )  # fmt: skip
    assert rows["Cost a day, in EUR"] == ("1,234", "1,234", "1,234")
    assert "Brier score (lower is better)" not in rows


def test_the_weakest_segment_comes_first_and_those_with_too_few_frauds_last() -> None:
    found = cells(facts_of(), "Where it is weak")
    assert [row[0] for row in found.rows] == ["segment: weak", f"segment: {NASTY}", "segment: rare"]
    assert found.rows[-1][1] == "9 frauds are too few"


def test_what_is_reviewed_is_called_as_the_contract_calls_it() -> None:
    assert "Cards a day" in cells(facts_of(), "Cost and capacity").columns
    flat = cells(facts_of(FLAT), "Cost and capacity")
    assert "Transactions a day" in flat.columns
    assert "Amount flagged" not in flat.columns
    assert "100 transactions a day" in [row[0] for row in flat.rows]


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ([("registered", 3)], "NOT DECIDED"),
        ([("registered", 3), ("refused", 3)], "NOT PROMOTED"),
        ([("registered", 3), ("promoted", 3)], "LIVE"),
        ([("promoted", 3), ("promoted", 4)], "WAS LIVE"),
    ],
)
def test_the_state_is_the_ledger_s(kinds: list[tuple[Any, int]], state: str) -> None:
    events = [
        Event(number, AT, kind, version, f"2025-0{number}", (Reason(Rule.TRAINED, "so"),), "me")
        for number, (kind, version) in enumerate(kinds, start=1)
    ]
    assert model_card(replace(facts_of(), events=events)).state == state


def test_limits_name_what_the_source_lacks_and_what_is_not_used() -> None:
    def limits(facts: CardFacts) -> str:
        (section,) = [one for one in model_card(facts).sections if one.title == "Known limits"]
        return " ".join(section.points)

    assert "no amounts" in limits(facts_of(FLAT))
    assert "no amounts" not in limits(facts_of())
    assert "name is not used: it has a value of its own in each row" in limits(facts_of())
    assert "It learned from 40 frauds" in limits(replace(facts_of(), n_fraud=40))
    assert "It has not been judged" in limits(bare(facts_of()))


def test_the_same_facts_give_the_same_card() -> None:
    assert as_html(model_card(facts_of())) == as_html(model_card(facts_of()))
