"""Reasons as data: they come back as they were, whatever their sentences hold."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.reasons import Reason, Rule, joined, read_reasons, reasons_from_json, reasons_to_json

# With what once stood between sentences.
SENTENCES = st.one_of(
    st.sampled_from(["a; b", "- a\n- b", "a: b", 'a "b"; c', "", " ", "\\n"]),
    st.text(st.characters(exclude_categories=["Cs"])),
)
REASONS = st.lists(st.builds(Reason, st.sampled_from(Rule), SENTENCES, st.none() | SENTENCES), max_size=4).map(tuple)


@given(REASONS)
def test_reasons_are_read_back_as_they_were_stored(reasons: tuple[Reason, ...]) -> None:
    assert reasons_from_json(reasons_to_json(reasons)) == reasons
    # As a jsonb column or metadata give them, which keep no order of keys.
    values = [dict(reversed(one.to_dict().items())) for one in reasons]
    assert read_reasons(json.loads(json.dumps(values))) == reasons


@given(REASONS)
def test_reasons_that_were_read_back_have_the_same_text_and_so_the_same_digest(reasons: tuple[Reason, ...]) -> None:
    text = reasons_to_json(reasons)
    assert reasons_to_json(reasons_from_json(text)) == text


def test_nothing_stored_is_no_reason() -> None:
    assert reasons_from_json(None) == reasons_from_json("[]") == ()


def test_joined_for_people_every_sentence_is_whole() -> None:
    reasons = [Reason(Rule.UNKNOWN_CATEGORY, "kind is none of ['a; b']", "kind"), Reason(Rule.NOT_A_ROW, "- is no row")]
    assert joined(reasons) == "kind is none of ['a; b']; - is no row"


def test_rules_are_stored_by_names_that_do_not_change() -> None:
    # Another name would be a rule that stored months do not know: a new migration comes with it.
    assert {str(rule) for rule in Rule} == {
        "below_minimum", "above_maximum", "unknown_category", "pattern_mismatch", "missing_value", "unreadable_value",
        "no_such_time", "ambiguous_time", "outside_month", "outside_contract", "in_the_future", "repeated_id",
        "id_of_earlier_month", "unknown_label", "label_time_missing", "label_before_transaction", "label_too_late",
        "not_a_row", "covariate", "missing", "category", "prediction", "multivariate", "label", "concept", "estimate",
        "more_findings", "nothing_moved", "nothing_compared", "other_reference", "features_not_compared",
        "no_challenger", "already_champion", "not_evaluated", "too_few_frauds", "decisions_unknown",
        "precision_unknown", "other_transactions", "difference_unknown", "useless", "better_than_chance",
        "not_better_than_chance", "maybe_chance", "better", "worse", "not_shown_better", "other_model", "too_alike",
        "parts_unknown", "calibration_unknown", "labels_not_matured", "drift_unknown", "training_unknown", "harm",
        "part_harmed", "miscalibrated", "suspect_month", "package_unknown", "other_scores", "too_slow", "too_large",
        "in_shadow", "needs_approval", "promotion_off", "trained", "by_hand", "unknown_version", "pruned",
        "no_drift", "broken_data", "broken_labels", "drift_off", "drifted", "worse_than_promised", "too_old",
        "model_due", "next_attempt", "waits", "given_up", "in_progress", "already_retrained", "cool_down",
        "policy_asks", "not_trained", "replay_ends", "not_judged", "partly_judged", "months_judged", "next_step",
        "earlier_version", "erased", "expired",
    }  # fmt: skip
