"""Staleness: what is recorded of a month, against what there is now."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
import pytest

from fraud_assets.core.lineage.staleness import (
    INPUTS_KEY,
    Inputs,
    Stale,
    absent,
    champion_inputs,
    features_inputs,
    find_stale,
    inputs_of,
    next_to_rebuild,
    stale_since,
)

Current = dict[tuple[str, str], tuple[str, Inputs | None]]
Lookup = Callable[[str, str], str | None]

CONTRACT: Inputs = {"contract": {"": "c1"}}


def lookup(**changed: str | None) -> Lookup:
    """What is no table: contract c1, deliveries s1, no champion, nothing added or decided."""
    now: dict[str, str | None] = {"contract": "c1", "source": "s1"} | changed
    return lambda name, _: now.get(name)


@pytest.fixture
def current() -> Current:
    """Three tables of two months, each made of what there is; a feature month looks one month back."""
    months = ("2018-04", "2018-05")
    found: Current = {}
    for month in months:
        found["raw_transactions", month] = (f"raw{month}xxx", CONTRACT | {"source": {month: "s1"}})
        found["fraud_labels", month] = (f"lab{month}xxx", CONTRACT | {"raw_transactions": {month: f"raw{month}xxx"}})
        seen = [one for one in months if one <= month]
        found["transaction_features", month] = (
            f"fea{month}xxx",
            CONTRACT
            | {
                "raw_transactions": {"2018-03": None} | {one: f"raw{one}xxx" for one in seen},
                "fraud_labels": {one: f"lab{one}xxx" for one in seen},
            },
        )
    return found


def told(stale: list[Stale]) -> dict[tuple[str, str], tuple[str, ...]]:
    return {one.partition: one.reasons for one in stale}


def changed(current: Current, table: str, month: str, digest: str) -> Current:
    return current | {(table, month): (digest, current[table, month][1])}


# What was read


def test_inputs_of_several_tables_are_put_together() -> None:
    one = pa.table({"a": [1]}).replace_schema_metadata({INPUTS_KEY: json.dumps({"raw_transactions": {"2018-04": "x"}})})
    two: Inputs = {"raw_transactions": {"2018-05": None}, "contract": {"": "c1"}}
    assert inputs_of(one, two) == {"raw_transactions": {"2018-04": "x", "2018-05": None}, "contract": {"": "c1"}}


def test_of_a_month_that_was_replaced_between_two_readings_the_first_is_kept() -> None:
    assert inputs_of({"t": {"2018-04": "old"}}, {"t": {"2018-04": "new"}}) == {"t": {"2018-04": "old"}}
    assert inputs_of({"t": {"2018-04": None}}, {"t": {"2018-04": "new"}}) == {"t": {"2018-04": None}}


def test_a_table_that_does_not_say_what_it_was_read_from_is_refused() -> None:
    with pytest.raises(ValueError, match=r"columns \['a'\] does not say what it was read from"):
        inputs_of(pa.table({"a": [1]}))


def test_the_inputs_given_are_left_as_they_are() -> None:
    given: Inputs = {"t": {"2018-04": "x"}}
    inputs_of(given, {"t": {"2018-05": "y"}})
    assert given == {"t": {"2018-04": "x"}}


def test_months_that_were_not_there_are_named_in_order() -> None:
    assert absent({"t": {"2018-05": None, "2018-03": None, "2018-04": "x"}}, "t") == ["2018-03", "2018-05"]
    assert absent({}, "t") == []


# What is stale


def test_nothing_is_stale_while_everything_is_as_it_was_recorded(current: Current) -> None:
    assert find_stale(current, lookup()) == []


def test_a_month_whose_history_never_was_there_is_not_stale(current: Current) -> None:
    assert current["transaction_features", "2018-04"][1] is not None
    assert ("transaction_features", "2018-04") not in told(find_stale(current, lookup()))


def test_a_changed_month_makes_everything_stale_that_read_it_and_says_what_it_was_and_is(current: Current) -> None:
    stale = told(find_stale(changed(current, "fraud_labels", "2018-04", "9f8e7d6c5b"), lookup()))
    reason = "fraud_labels 2018-04 has changed since (was lab2018-, is 9f8e7d6c)"
    assert stale == {("transaction_features", month): (reason,) for month in ("2018-04", "2018-05")}


def test_a_month_that_has_arrived_since_makes_stale_what_looked_for_it(current: Current) -> None:
    current["raw_transactions", "2018-03"] = ("raw", CONTRACT | {"source": {"2018-03": "s1"}})
    stale = told(find_stale(current, lookup()))
    assert stale == {
        ("transaction_features", month): ("raw_transactions 2018-03 has arrived since",)
        for month in ("2018-04", "2018-05")
    }


def test_features_that_are_made_in_another_way_are_stale_and_so_are_those_from_before_it_was_recorded(
    current: Current,
) -> None:
    old, new = ("transaction_features", "2018-04"), ("transaction_features", "2018-05")
    digest, inputs = current[new]
    current[new] = digest, {**(inputs or {}), **features_inputs("f1")}
    assert told(find_stale(current, lookup(features="f1"))) == {old: ("how features are made has changed",)}
    found = told(find_stale(current, lookup(features="f2")))
    assert set(found) == {old, new}
    assert "how features are made has changed" in found[new]


def test_what_is_built_on_something_stale_says_so_and_that_it_did_not_change_itself(current: Current) -> None:
    stale = find_stale(changed(current, "raw_transactions", "2018-04", "new"), lookup())
    features = next(one for one in stale if one.partition == ("transaction_features", "2018-05"))
    assert features.reasons == (
        "raw_transactions 2018-04 has changed since (was raw2018-, is new)",
        "it was built on fraud_labels 2018-04, which is stale",
    )
    assert features.changes == features.reasons[:1]
    current["drift_report", "2018-05"] = ("d", CONTRACT | {"transaction_features": {"2018-05": "fea2018-05xxx"}})
    stale = find_stale(changed(current, "raw_transactions", "2018-04", "new"), lookup())
    drift = next(one for one in stale if one.table == "drift_report")
    assert drift.reasons == ("it was built on transaction_features 2018-05, which is stale",)
    assert (drift.changes, drift.built_on) == ((), (("transaction_features", "2018-05"),))


def test_months_of_one_table_that_something_was_built_on_are_told_together(current: Current) -> None:
    current["drift_report", "2018-05"] = (
        "d", {"transaction_features": {"2018-04": "fea2018-04xxx", "2018-05": "fea2018-05xxx"}},
    )  # fmt: skip
    stale = told(find_stale(changed(current, "fraud_labels", "2018-04", "new"), lookup()))
    assert stale["drift_report", "2018-05"] == (
        "it was built on transaction_features 2018-04 to 2018-05, which are stale",
    )


def test_settings_of_training_that_were_recorded_as_a_whole_make_models_stale_as_a_whole(current: Current) -> None:
    model = "trained_model", "2018-05"
    current = current | {model: ("mod", CONTRACT | {"training": {"": "t1"}})}
    assert find_stale(current, lookup(training="t1")) == []
    assert told(find_stale(current, lookup(training="t2"))) == {model: ("the settings of training have changed",)}


@pytest.mark.parametrize(
    ("part", "name", "was", "is_now", "reason"),
    [
        ("costs", "review", "10", "12", "the review cost was 10 and is 12"),
        ("maturity", "days", "7", "14", "the maturity in days was 7 and is 14"),
        ("drift", "psi_limit", "0.1", "0.2", "the drift limit psi_limit was 0.1 and is 0.2"),
        ("training", "window_months", "12", "none", "the training window in months was 12 and is none"),
        ("training", "grid", "0" * 64, "1" * 64, "the training setting grid has changed"),
    ],
)
def test_a_changed_setting_makes_stale_what_recorded_it_and_says_what_it_was_and_is(
    current: Current, part: str, name: str, was: str, is_now: str, reason: str
) -> None:
    report = "drift_report", "2018-05"
    current = current | {report: ("dri", CONTRACT | {part: {name: was, "another": "1"}})}
    now = {(part, name): was, (part, "another"): "1", ("contract", ""): "c1", ("source", "2018-04"): "s1"}
    assert find_stale(current, lambda *asked: now.get(asked)) == []
    changed = now | {(part, name): is_now}
    assert told(find_stale(current, lambda *asked: changed.get(asked))) == {report: (reason,)}


def test_a_setting_that_was_not_recorded_or_that_there_is_no_more_makes_nothing_stale(current: Current) -> None:
    current = current | {("drift_report", "2018-05"): ("dri", CONTRACT | {"drift": {"gone": "1"}})}
    assert find_stale(current, lookup(costs="12", drift=None)) == []


def test_a_changed_contract_makes_everything_stale(current: Current) -> None:
    stale = told(find_stale(current, lookup(contract="c2")))
    assert stale.keys() == current.keys()
    assert all(reasons[0] == "the contract has changed" for reasons in stale.values())


@pytest.mark.parametrize(
    ("name", "was", "is_now", "reason"),
    [
        ("source", "s1", "s2", "the delivery of 2018-04 has changed since (was s1, is s2)"),
        ("source", None, "s1", "the delivery of 2018-04 has arrived since"),
        ("label_feed", None, "f1", "the label feed of 2018-04 has arrived since"),
        ("added_labels", None, "a1", "labels for 2018-04 have been added since"),
        ("added_labels", "a1", "a2", "labels for 2018-04 have been added since"),
        ("quarantine_decisions", None, "q", "what was decided about quarantined rows of 2018-04 has changed"),
        ("earlier_ids", None, "2018-02 2018-03", "2018-02 to 2018-03 came later, with ids among those of 2018-04"),
        ("earlier_ids", "2018-01 2018-02", "2018-02 2018-03", "2018-03 came later, with ids among those of 2018-04"),
    ],
)
def test_what_is_no_table_makes_stale_too(name: str, was: str | None, is_now: str | None, reason: str) -> None:
    current: Current = {("fraud_labels", "2018-04"): ("d", {name: {"2018-04": was}})}
    assert told(find_stale(current, lookup(**{name: was}))) == {}
    assert told(find_stale(current, lookup(**{name: is_now}))) == {("fraud_labels", "2018-04"): (reason,)}


def test_an_earlier_month_that_no_longer_has_such_ids_is_told_of_as_a_changed_month_only() -> None:
    current: Current = {("raw_transactions", "2018-04"): ("d", {"earlier_ids": {"2018-04": "2018-02 2018-03"}})}
    assert find_stale(current, lookup(earlier_ids="2018-03")) == []


def test_a_delivery_that_was_archived_makes_nothing_stale(current: Current) -> None:
    assert find_stale(current, lookup(source=None)) == []


@pytest.mark.parametrize(
    ("was", "is_now", "reason"),
    [
        (2, "3", "the champion before 2018-06 was v2 and is v3"),
        (None, "3", "the champion before 2018-06 was none and is v3"),
        (2, None, "the champion before 2018-06 was v2 and is none"),
    ],
)
def test_another_champion_makes_stale(was: int | None, is_now: str | None, reason: str) -> None:
    current: Current = {("drift_report", "2018-06"): ("d", champion_inputs("2018-06", was))}
    assert told(find_stale(current, lambda *_: is_now)) == {("drift_report", "2018-06"): (reason,)}


def test_what_was_made_with_a_champion_was_built_on_the_decisions_before_it_and_not_on_its_own() -> None:
    current: Current = {
        ("champion", month): ("d", CONTRACT | champion_inputs(month, 1) | {"evaluation": {month: "e"}})
        for month in ("2018-05", "2018-06", "2018-07")
    }
    current["evaluation", "2018-06"] = ("other", CONTRACT)
    stale = find_stale(current, lambda name, _: {"ledger": "1", "contract": "c1"}.get(name))
    assert [(one.partition, one.built_on) for one in stale] == [
        (("champion", "2018-06"), ()),
        (("champion", "2018-07"), (("champion", "2018-06"),)),
    ]


def test_a_decision_that_records_what_was_live_after_it_is_not_built_on_itself_nor_the_report_before_it_on_it() -> None:
    after = {"ledger": {"champion before 2018-06": "1", "champion before 2018-07": "1"}}
    current: Current = {
        ("champion", "2018-06"): ("d", CONTRACT | after | {"evaluation": {"2018-06": "e"}}),
        ("drift_report", "2018-06"): ("d", champion_inputs("2018-06", 1)),
        ("evaluation", "2018-06"): ("other", CONTRACT),
    }
    stale = find_stale(current, lookup(ledger="1"))
    assert [(one.partition, one.built_on) for one in stale] == [(("champion", "2018-06"), ())]


@pytest.mark.parametrize("inputs", [None, {}])
def test_what_it_was_made_of_must_be_recorded(inputs: Inputs | None) -> None:
    current: Current = {("evaluation", "2018-04"): ("d", inputs)}
    assert told(find_stale(current, lookup())) == {
        ("evaluation", "2018-04"): ("what it was made of has not been recorded",)
    }


def test_stale_months_come_by_month_and_then_in_the_order_of_the_graph(current: Current) -> None:
    stale = find_stale(current, lookup(contract="c2"))
    assert [one.partition for one in stale] == [
        (table, month)
        for month in ("2018-04", "2018-05")
        for table in ("raw_transactions", "fraud_labels", "transaction_features")
    ]


# What has become stale since

RAW, LABELS, FEATURES, DRIFT = (
    (name, "2018-04") for name in ("raw_transactions", "fraud_labels", "transaction_features", "drift_report")
)


def test_of_what_is_stale_now_only_the_changes_that_are_new_count() -> None:
    before = [Stale(*RAW, ("old",)), Stale(*LABELS, ("old",))]
    now = [Stale(*RAW, ("old",)), Stale(*LABELS, ("old", "new")), Stale(*FEATURES, ("new",))]
    assert stale_since(before, now) == [Stale(*LABELS, ("new",)), Stale(*FEATURES, ("new",))]


def test_what_was_only_built_on_something_stale_is_new_when_that_has_changed() -> None:
    before = [Stale(*RAW, ("delivered again",)), Stale(*LABELS, (), (RAW,))]
    assert stale_since(before, [Stale(*LABELS, ("raw_transactions has changed",))]) == [
        Stale(*LABELS, ("raw_transactions has changed",))
    ]
    assert stale_since(before, before) == []


def test_what_is_built_on_something_newly_stale_is_too_and_names_that_alone() -> None:
    before = [Stale(*LABELS, ("old",))]
    now = [
        Stale(*RAW, ("new",)), Stale(*LABELS, ("old",)), Stale(*FEATURES, (), (RAW, LABELS)),
        Stale(*DRIFT, ("old",), (FEATURES,)),
    ]  # fmt: skip
    assert stale_since([*before, Stale(*DRIFT, ("old",))], now) == [
        Stale(*RAW, ("new",)), Stale(*FEATURES, (), (RAW,)), Stale(*DRIFT, (), (FEATURES,)),
    ]  # fmt: skip


def test_since_nothing_was_stale_everything_is_new(current: Current) -> None:
    stale = find_stale(changed(current, "raw_transactions", "2018-04", "new"), lookup())
    assert len(stale) == 3
    assert stale_since([], stale) == stale


# What comes next


def partitions(stale: list[Stale]) -> list[tuple[str, str]]:
    return [one.partition for one in stale]


def test_the_earliest_month_comes_first_and_in_it_what_waits_for_nothing(current: Current) -> None:
    stale = find_stale(changed(current, "raw_transactions", "2018-04", "new"), lookup())
    assert partitions(stale) == [
        ("fraud_labels", "2018-04"), ("transaction_features", "2018-04"), ("transaction_features", "2018-05"),
    ]  # fmt: skip
    assert partitions(next_to_rebuild(stale)) == [("fraud_labels", "2018-04")]


def test_what_is_only_built_on_something_given_up_is_left_and_what_is_stale_by_itself_is_made(
    current: Current,
) -> None:
    current["drift_report", "2018-04"] = ("d", CONTRACT | {"fraud_labels": {"2018-04": "lab2018-04xxx"}})
    stale = find_stale(changed(current, "raw_transactions", "2018-04", "new"), lookup())
    after = next_to_rebuild(stale, {("fraud_labels", "2018-04")})
    assert partitions(after) == [("transaction_features", "2018-04")]


def test_what_waits_at_one_remove_waits_too() -> None:
    """c is stale by itself, and built on b, which may change when a is made anew."""
    a, b, c = (("raw_transactions", "2018-04"), ("fraud_labels", "2018-04"), ("evaluation", "2018-04"))
    stale = [Stale(*a, ("x",)), Stale(*b, (), (a,)), Stale(*c, ("z",), (b,))]
    assert partitions(next_to_rebuild(stale)) == [a]
    assert partitions(next_to_rebuild(stale, {a})) == [c]


def test_what_comes_before_in_the_graph_is_waited_for_also_where_it_was_not_read_the_last_time() -> None:
    stale = [Stale(name, "2018-04", ("x",)) for name in ("transaction_features", "evaluation")]
    assert len(next_to_rebuild(stale)) == 2
    upstream = {"evaluation": {"trained_model", "transaction_features"}}
    assert partitions(next_to_rebuild(stale, (), upstream)) == [("transaction_features", "2018-04")]
    given_up = {("transaction_features", "2018-04")}
    assert partitions(next_to_rebuild(stale, given_up, upstream)) == [("evaluation", "2018-04")]


def test_nothing_is_left_to_make_when_all_was_given_up() -> None:
    stale = [Stale("raw_transactions", "2018-04", ("x",))]
    assert next_to_rebuild(stale, {("raw_transactions", "2018-04")}) == []
    assert next_to_rebuild([]) == []


def test_partitions_of_one_month_that_wait_for_nothing_come_together() -> None:
    stale = [Stale(name, "2018-04", ("x",)) for name in ("evaluation", "drift_report")]
    assert partitions(next_to_rebuild(stale)) == [("drift_report", "2018-04"), ("evaluation", "2018-04")]
