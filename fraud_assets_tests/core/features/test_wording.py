"""Every feature has a sentence for every value, and it is one that people can read."""

import datetime as dt
import math
from pathlib import Path

import pytest

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.features.declarations import feature_wordings, model_columns, text_features
from fraud_assets.core.features.wording import Wording, unknown_wording

ROOT = Path(__file__).parents[3]
CARDS = """
name: cards
first_month: 2024-01
event_timestamp: {column: time}
entities:
  card_id: {column: card, type: string}
  terminal_id: {column: terminal, type: string, nullable: true}
amount: {column: amount, type: number, unit: EUR}
attributes:
  merchant_segment: {column: segment, type: string, nullable: true}
  wert_in_gb: {column: Wert, type: number, unit: "{GB}"}
  expires: {column: expires, type: date, nullable: true}
  present: {column: present, type: boolean, nullable: true}
features:
  - {entity: [card_id, terminal_id], aggregate: count, window: 90d}
  - {entity: card_id, aggregate: days_since_last, window: 6h}
  - {entity: card_id, aggregate: distinct, of: merchant_segment, window: 7d}
  - {entity: card_id, aggregate: mean, of: night, window: 30d}
  - {entity: card_id, aggregate: mean, of: weekend, window: 30d}
  - {entity: card_id, aggregate: std, of: amount, window: 1d}
  - {entity: card_id, aggregate: sum, of: amount, window: 1d}
  - {entity: card_id, aggregate: min, of: present, window: 1h}
  - {entity: card_id, aggregate: max, of: wert_in_gb, window: 1h}
label: {column: fraud, delay_days: 7}
maturity_days: 7
"""
CONTRACTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "contracts").glob("*.yaml"))}
CONTRACTS["cards"] = CARDS
NUMBERS = (0.0, 1.0, 0.25, -3.5, 1234567.0, 1e-7, math.nan, None)


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_feature_has_a_sentence_for_every_value(name):
    contract = parse_contract(CONTRACTS[name])
    wordings = feature_wordings(contract)
    assert tuple(wordings) == model_columns(contract)
    for feature, wording in wordings.items():
        texts = feature in text_features(contract)
        for value in ("x" * 300, "", "{value}", None) if texts else NUMBERS:
            said = wording.say(value)
            assert said.strip(), feature
            assert said[0].islower() or said[0].isdigit() or said[0] == "-", (feature, said)
            assert len(said) < 200
            assert value == "{value}" or not set("{}") & set(said), (feature, said)
            assert "nan" not in said.split(), (feature, said)


SENTENCES = {
    ("card_amount_ratio", 42.03): "42 times the usual amount of this card",
    ("card_amount_ratio", None): "no usual amount of this card is known yet",
    ("card_count_1d", 0.0): "no transaction of this card in the day before",
    ("card_count_7d", 1.0): "1 transaction of this card in the 7 days before",
    ("terminal_count_30d", 1204.0): "1,204 transactions of this terminal in the 30 days before",
    ("card_days_since_last", 0.25): "the transaction before of this card was 6 hours ago",
    ("card_days_since_last", math.nan): "no transaction of this card in the 90 days before",
    ("card_amount_z", -0.5): "the amount is 0.5 standard deviations below what is usual for this card",
    ("card_amount_excess_7d", 0.0): "no unusually large amount of this card in the 7 days before",
    ("terminal_known_fraud_share_90d", 0.182): (
        "about 18.2 % of the transactions of this terminal in the 90 days before are known frauds"
    ),
    ("terminal_days_since_last_known_fraud", 3.0): "the last known fraud of this terminal was 3 days ago",
    ("terminal_days_since_last_known_fraud", None): (
        "no fraud of this terminal became known in the 90 days before"
    ),
    ("card_terminal_count_90d", 2.0): "2 transactions of this card and terminal in the 90 days before",
    ("card_distinct_merchant_segment_7d", 3.0): (
        "3 different values of merchant segment in the transactions of this card in the 7 days before"
    ),
    ("card_mean_night_30d", 0.5): (
        "50.0 % of the transactions of this card in the 30 days before were before six in the morning"
    ),
    ("hour", 3.42): "the time of day is 03:25",
    ("is_weekend", 1.0): "it is a Saturday or a Sunday",
    ("amount", 1234.5): "the amount is 1,234 EUR",
    ("wert_in_gb", 2.0): "wert in gb is 2 (GB)",
    ("expires", -1.0): "expires is 1 day after the transaction",
    ("present", 0.0): "present is false",
    ("merchant_segment", "travel"): "merchant segment is travel",
    ("merchant_segment", None): "merchant segment is missing",
}  # fmt: skip


@pytest.mark.parametrize(("feature", "value"), SENTENCES)
def test_a_sentence_says_what_the_value_means(feature, value):
    assert feature_wordings(parse_contract(CARDS))[feature].say(value) == SENTENCES[feature, value]


def test_a_column_that_no_contract_knows_is_told_by_its_name():
    assert unknown_wording("{old}").say(2.5) == "(old) is 2.5"
    assert unknown_wording("old").say(None) == "old is missing"


def test_a_template_without_a_sentence_for_no_value_says_that_it_is_not_known():
    assert Wording("clock", "the time of day is {value}").say(math.nan) == "the time of day is not known"


def test_whole_minutes_of_a_day_are_told_as_a_clock_shows_them():
    for minute in range(0, 24 * 60, 7):
        hour = float(minute) / 60
        said = dt.time(minute // 60, minute % 60).strftime("%H:%M")
        assert Wording("clock", "{value}").say(hour + 1e-4) == said
