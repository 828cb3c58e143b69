"""Drift of a month: one thing changed per case, what cannot be compared, and mistakes of the caller."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.drift import columns as column_drift
from fraud_assets.core.drift import covariate as drift
from fraud_assets.core.drift.covariate import insufficient
from fraud_assets.core.drift.findings import holm
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.monitoring.verdict import judge_month
from fraud_assets.core.statistics import clusters as clusters_module
from fraud_assets.core.words import percent
from fraud_assets_tests.core.quiet_months import World, amounts, compare, replaced, status, told
from fraud_assets_tests.sentences import texts


@pytest.fixture(scope="module")
def months():
    return World(seed=7).months()


@pytest.fixture(scope="module")
def year():
    """A quarter, the months of it and two more, and a month in which nothing moved either."""
    world = World(seed=11)
    past = [world.window(*month) for month in (("2018-01-01", 31), ("2018-02-01", 28), ("2018-03-01", 31))]
    reference = pa.concat_tables(past)
    past += [world.window("2018-04-01", 30), world.window("2018-05-01", 31)]
    return reference, past, world.window("2018-06-01", 30)


# Verdicts: months in which nothing moved, one thing changed per case.


def test_months_in_which_nothing_moved_are_ok_and_say_so(months):
    findings = compare(*months, "amount", "customer_level", "noise")
    verdict = judge_month(findings)
    assert verdict.drift_status == "OK"
    assert verdict.reasons[0].text.startswith("none of the 4 checks found a change to act on (smallest adjusted p ")
    assert [finding.feature for finding in findings] == ["amount", "customer_level", "noise", "rows_a_day"]
    assert all(finding.reason for finding in findings)


def missing_share(share):
    def change(values, rng):
        values[rng.random(len(values)) < share] = np.nan
        return values

    return change


@pytest.mark.parametrize(
    ("change", "expected", "cause", "words"),
    [
        (lambda values: values * 1.15, "DRIFT", "scaled", "amount is higher by "),
        (lambda values: values * 2, "DRIFT", "scaled", "amount is higher by "),
        (lambda values: -values, "DRIFT", "distribution", "its median went from "),
        (lambda values: np.full_like(values, np.inf), "DRIFT", "lost_feature", "has one value only"),
        (lambda values: values * 1.0001, "OK", None, "not beyond chance"),
    ],
)
def test_a_change_of_all_amounts_is_seen_and_named_once_months_tell_how_much_they_differ(
    year, change, expected, cause, words
):
    reference, past, current = year
    findings = compare(reference, replaced(current, "amount", change(amounts(current))), "amount", "noise", past=past)
    finding = told(findings, "amount")
    assert (finding.status, finding.cause) == (expected, cause)
    assert words in finding.reason
    assert told(findings, "noise").status == "OK"
    assert status(findings) == expected


@pytest.mark.parametrize(("factor", "expected"), [(1.15, "WATCH"), (2, "DRIFT")])
def test_without_months_to_tell_how_much_they_differ_only_a_large_move_is_drift(months, factor, expected):
    reference, current = months
    finding = told(compare(reference, replaced(current, "amount", amounts(current) * factor), "amount"), "amount")
    assert finding.status == expected
    assert ("0 earlier months cannot tell how much months differ" in finding.reason) == (expected == "WATCH")


def test_months_that_differ_as_much_as_this_one_make_it_quiet():
    # Amounts of a month are all higher or lower by a tenth, which no month shows by itself.
    world = World(seed=21)
    shocks = [0.9, 1.1, 0.95, 1.1, 0.9]
    tables = [
        replaced(table, "amount", amounts(table) * shock)
        for table, shock in zip([world.window(f"2018-0{month}-01", 28) for month in range(1, 6)], shocks, strict=True)
    ]
    current = world.window("2018-06-01", 28)
    current = replaced(current, "amount", amounts(current) * 1.08)
    reference = pa.concat_tables(tables[:3])
    assert told(compare(reference, current, "amount"), "amount").p_value < 1e-4
    assert told(compare(reference, current, "amount", past=tables), "amount").status == "OK"


def test_one_row_in_three_of_the_reference_says_the_same_as_all(year):
    reference, past, current = year
    doubled = replaced(current, "amount", amounts(current) * 1.3)
    config = DriftConfig(reference_rows=-(-reference.num_rows // 3))
    every = compare(reference, doubled, "amount", past=past)
    third = compare(reference, doubled, "amount", past=past, config=config)
    assert told(third, "amount").status == told(every, "amount").status == "DRIFT"
    assert told(third, "amount").psi == pytest.approx(told(every, "amount").psi, rel=0.15)
    # Each row that is left stands for three.
    before, whole = (told(findings, "rows_a_day").value_reference for findings in (third, every))
    assert before == pytest.approx(whole, rel=0.01)


def test_the_reason_names_shares_psi_medians_day_and_p(year):
    reference, past, current = year
    doubled = replaced(current, "amount", amounts(current) * 2)
    finding = told(compare(reference, doubled, "amount", past=past), "amount")
    before, now = np.median(amounts(reference)), np.median(amounts(doubled))
    share = f"{finding.total_variation * 100:.1f} %"
    assert (
        f"{share} of rows in other bins (PSI {finding.psi:.2f}), its median went from {before:.3g} to {now:.3g}, since "
    )
    assert finding.reason.startswith("amount is higher by 1")
    assert finding.reason.endswith("since 2018-06-01, adjusted p below 0.001")
    assert f"{share} of rows in other bins (PSI {finding.psi:.2f}), its median went from {before:.3g} to {now:.3g}" in (
        finding.reason
    )
    assert finding.since == date(2018, 6, 1)


def test_a_change_from_the_middle_of_the_month_on_is_dated(year):
    reference, past, current = year
    late = np.array([moment.day >= 16 for moment in current["event_timestamp"].to_pylist()])
    changed = replaced(current, "amount", np.where(late, amounts(current) * 1.5, amounts(current)))
    finding = told(compare(reference, changed, "amount", past=past), "amount")
    assert finding.status == "DRIFT"
    assert abs((finding.since - date(2018, 6, 16)).days) <= 1


@pytest.mark.parametrize(("share", "expected"), [(0.10, "DRIFT"), (1.0, "DRIFT"), (0.02, "WATCH")])
def test_missing_values_are_a_finding_of_their_own_and_the_data_s_fault(months, share, expected):
    reference, current = months
    changed = replaced(current, "amount", missing_share(share)(amounts(current), np.random.default_rng(1)))
    findings = compare(reference, changed, "amount")
    finding = told(findings, "amount", "missing")
    assert (finding.status, finding.cause) == (expected, "missing_values")
    assert finding.reason.startswith(f"amount has no value in {percent(finding.missing_current)} of rows, 0.0 % before")
    assert judge_month(findings).blame == "data"


def test_missing_values_that_rise_from_a_tenth_are_drift_although_psi_is_small(months):
    rng = np.random.default_rng(2)
    reference, current = (
        replaced(table, "amount", missing_share(share)(amounts(table), rng))
        for table, share in zip(months, (0.10, 0.17), strict=True)
    )
    finding = told(compare(reference, current, "amount"), "amount", "missing")
    assert finding.psi < 0.1
    assert finding.missing_reference == pytest.approx(0.10, abs=0.01)
    assert finding.missing_current == pytest.approx(0.17, abs=0.01)
    assert finding.status == "DRIFT"


def test_a_feature_that_is_missing_for_want_of_a_history_is_no_fault_of_the_data(year):
    reference, past, current = year
    tables = [
        table.append_column("mean_before", pa.array(missing_share(share)(amounts(table), np.random.default_rng(3))))
        for table, share in [(reference, 0.02), *((table, 0.02) for table in past), (current, 0.12)]
    ]
    findings = compare(tables[0], tables[-1], "amount", "mean_before", past=tables[1:-1])
    finding = told(findings, "mean_before", "missing")
    assert (finding.status, finding.cause) == ("DRIFT", "distribution")
    assert judge_month(findings).blame == "world"


def test_features_made_of_an_empty_column_are_empty_for_its_reason(year):
    reference, past, current = year
    gone = np.random.default_rng(4).random(current.num_rows) < 0.1

    def with_ratio(table, missing=None):
        values = amounts(table)
        if missing is not None:
            values[missing] = np.nan
        table = replaced(table, "amount", values)
        return table.append_column("ratio", pa.array(values / 40))

    findings = compare(
        with_ratio(reference), with_ratio(current, gone), "amount", "ratio", past=[with_ratio(month) for month in past]
    )
    assert told(findings, "ratio", "missing").cause == "missing_values"


def test_a_shift_too_small_to_act_on_is_not_watched_however_sure_it_is(months):
    reference, current = months
    shifted = replaced(current, "amount", amounts(current) * 1.1)
    finding = told(compare(reference, shifted, "amount", config=DriftConfig(min_total_variation=0.2)), "amount")
    assert finding.p_adjusted < DriftConfig().watch_p
    assert finding.status == "OK"
    assert "too little to act on" in finding.reason


def test_between_the_two_levels_of_p_a_large_move_is_watched_not_called_drift(months):
    reference, current = months
    doubled = replaced(current, "amount", amounts(current) * 2)
    finding = told(compare(reference, doubled, "amount", config=DriftConfig(delivered_drift_p=1e-300)), "amount")
    assert finding.p_adjusted > 1e-300
    assert finding.status == "WATCH"


def test_a_sure_move_of_few_rows_is_watched_and_not_acted_on(year):
    reference, past, current = year
    changed = replaced(current, "amount", amounts(current) * 2)
    share = told(compare(reference, changed, "amount", past=past), "amount").total_variation
    for floor, expected in ((share - 0.01, "DRIFT"), (share + 0.01, "WATCH")):
        config = DriftConfig(drift_total_variation=floor)
        assert told(compare(reference, changed, "amount", past=past, config=config), "amount").status == expected


def test_columns_that_are_sometimes_empty_do_not_make_moves_of_values_less_sure(months):
    reference, current = months
    findings = compare(reference, current, "amount", "noise")
    holes = [
        table.append_column("hole", pa.array(missing_share(0.2)(amounts(table), np.random.default_rng(8))))
        for table in months
    ]
    with_holes = compare(*holes, "amount", "noise", "hole")
    assert told(with_holes, "hole", "missing").p_adjusted == told(with_holes, "hole", "missing").p_value
    # Its values are one more of the made columns.
    made = [told(with_holes, name) for name in ("noise", "hole")]
    assert [one.p_adjusted for one in made] == pytest.approx(holm([one.p_value for one in made]))
    assert told(with_holes, "amount") == told(findings, "amount")


def test_p_is_adjusted_over_what_is_delivered_and_over_what_is_made_of_it(months):
    findings = compare(*months, "amount", "customer_level", "noise")
    for names in (("amount", "rows_a_day"), ("customer_level", "noise")):
        family = [told(findings, name) for name in names]
        assert [one.p_adjusted for one in family] == pytest.approx(holm([one.p_value for one in family]))


def test_what_is_delivered_needs_less_to_be_drift_than_what_is_made_of_it(year):
    reference, past, current = year
    changed = replaced(current, "amount", amounts(current) * 2)
    changed, reference, *past = (table.append_column("made", table["amount"]) for table in (changed, reference, *past))
    config = DriftConfig(drift_p=1e-300)
    findings = compare(reference, changed, "amount", "made", past=past, config=config)
    assert [told(findings, name).status for name in ("amount", "made")] == ["DRIFT", "WATCH"]


@pytest.mark.parametrize(
    ("psi_limit", "floor", "expected"),
    [(0.1, 0.018, ["DRIFT", "WATCH"]), (9.0, 0.018, ["DRIFT", "OK"]), (9.0, 0.9, ["WATCH", "OK"])],
)
def test_of_what_is_made_of_labels_only_a_large_move_is_watched(year, psi_limit, floor, expected):
    reference, past, current = year
    changed = replaced(current, "amount", amounts(current) * 2)
    config = DriftConfig(psi_limit=psi_limit, drift_total_variation=floor)
    found = [
        compare(reference, changed, "amount", past=past, delivered=(), of_labels=of_labels, config=config)
        for of_labels in ((), ("amount",))
    ]
    assert [told(findings, "amount").status for findings in found] == expected
    if expected[1] == "OK":
        assert "looked at by themselves" in told(found[1], "amount").reason


def test_scores_of_a_champion_that_takes_features_of_labels_are_watched_where_they_would_drift(year):
    reference, past, current = year
    reference, current, *past = (with_score(table) for table in (reference, current, *past))
    changed = replaced(current, "score", current["score"].to_numpy() * 2)
    for of_labels, expected in (((), "DRIFT"), (("score",), "WATCH")):
        findings = compare(reference, changed, "amount", past=past, of_labels=of_labels)
        assert told(findings, "score", "prediction").status == expected


def with_score(table):
    """With a score that follows the amount."""
    return table.append_column("score", pa.array(amounts(table) / 1000))


def test_a_rise_of_the_volume_is_watched_and_features_that_count_rows_follow_it(year):
    reference, past, current = year
    more = pa.concat_tables([current, current.take(np.arange(0, current.num_rows, 5))])

    def counted(table, factor=1.0):
        values = np.random.default_rng(5).poisson(20 * factor, table.num_rows).astype(float)
        return table.append_column("count_30d", pa.array(values))

    volume = more.num_rows / current.num_rows
    findings = compare(
        counted(reference), counted(more, volume), "count_30d", past=[counted(month) for month in past],
        counting={"count_30d"},
    )  # fmt: skip
    rows = told(findings, "rows_a_day")
    assert (rows.status, rows.cause) == ("WATCH", "volume")
    assert rows.value_current / rows.value_reference == pytest.approx(volume, abs=0.05)
    follower = told(findings, "count_30d")
    assert follower.status == "OK"
    assert "follows the number of rows a day" in follower.reason


def test_the_score_is_compared_as_a_prediction_without_being_named(months):
    reference, current = (table.append_column("score", table["noise"]) for table in months)
    findings = compare(reference, current, "amount")
    assert [(one.feature, one.kind) for one in findings] == [
        ("amount", "covariate"), ("score", "prediction"), ("rows_a_day", "covariate"),
    ]  # fmt: skip
    assert len(compare(reference, current, "score", "amount")) == 3


def test_an_hour_that_is_off_by_one_is_a_wrong_clock_and_the_data_s_fault(year):
    rng = np.random.default_rng(6)

    def with_hours(table, shift=0):
        hours = (rng.normal(14, 4, table.num_rows).round() + shift) % 24
        return table.append_column("hour", pa.array(hours))

    reference, past, current = year
    findings = compare(
        with_hours(reference), with_hours(current, 1), "hour", past=[with_hours(month) for month in past]
    )
    finding = told(findings, "hour")
    assert (finding.status, finding.cause) == ("DRIFT", "shifted_clock")
    assert "1 h ahead" in finding.reason
    assert judge_month(findings).blame == "data"


def test_a_few_customers_who_spend_more_are_found_though_the_amounts_of_all_hardly_move(year):
    reference, past, current = year
    ids = current["customer_id"].to_numpy()
    changed = replaced(current, "amount", np.where(ids % 10 == 0, amounts(current) * 3, amounts(current)))
    findings = compare(reference, changed, "amount", past=past, card="customer_id")
    finding = told(findings, "amount_by_customer_id")
    assert (finding.status, finding.cause) == ("DRIFT", "few_entities")
    assert finding.value_current > finding.value_reference
    assert told(compare(*year[::2], "amount", past=past, card="customer_id"), "amount_by_customer_id").status == "OK"


@pytest.mark.parametrize("factor", [0.5, 1.8])
def test_prices_that_change_for_all_are_no_habit_of_a_few_customers(year, factor):
    reference, past, current = year
    changed = replaced(current, "amount", amounts(current) * factor)
    finding = told(compare(reference, changed, "amount", past=past, card="customer_id"), "amount_by_customer_id")
    assert finding.status == "OK"


# Texts.


def with_texts(table, values, seed=0):
    rng = np.random.default_rng(seed)
    names, shares = zip(*values.items(), strict=True)
    return table.append_column("shop", pa.array(rng.choice(names, table.num_rows, p=shares).tolist()))


def test_texts_are_compared_by_their_values(year):
    reference, past, current = year
    usual = {"a": 0.5, "b": 0.3, "c": 0.2}
    quiet = [with_texts(table, usual, seed) for seed, table in enumerate([reference, *past, current])]
    assert told(compare(quiet[0], quiet[-1], "shop", past=quiet[1:-1]), "shop").status == "OK"
    moved = with_texts(current, {"a": 0.4, "b": 0.4, "c": 0.2}, 9)
    finding = told(compare(quiet[0], moved, "shop", past=quiet[1:-1]), "shop")
    assert (finding.status, finding.cause) == ("DRIFT", "distribution")
    # A tenth went from a to b.
    assert finding.total_variation == pytest.approx(0.1, abs=0.02)


def test_a_new_value_is_a_finding_of_its_own(year):
    reference, past, current = year
    usual = {"a": 0.6, "b": 0.4}
    tables = [with_texts(table, usual, seed) for seed, table in enumerate([reference, *past])]
    moved = with_texts(current, {"a": 0.57, "b": 0.4, "z": 0.03}, 9)
    finding = told(compare(tables[0], moved, "shop", past=tables[1:]), "shop", "category")
    assert (finding.status, finding.cause) == ("DRIFT", "new_category")
    assert finding.value_current == pytest.approx(0.03, abs=0.01)
    assert "shop has 1 new value in " in finding.reason
    assert finding.reason.split(":")[1].strip().startswith("z")


def test_ten_thousand_new_values_are_one_finding_with_a_few_of_them_named(months):
    reference, current = months
    reference = reference.append_column("shop", pa.array(["a"] * reference.num_rows))
    current = current.append_column("shop", pa.array([f"s{row % 10_000}" for row in range(current.num_rows)]))
    findings = compare(reference, current, "shop")
    finding = told(findings, "shop", "category")
    assert finding.status == "DRIFT"
    assert len(finding.reason) < 400


def test_values_that_are_new_as_often_as_ever_are_no_finding(year):
    # Ids of which every month has its own.
    reference, past, current = year
    count = iter(range(10**7))

    def with_ids(table):
        return table.append_column("shop", pa.array([f"s{next(count)}" for _ in range(table.num_rows)]))

    findings = compare(with_ids(reference), with_ids(current), "shop", past=[with_ids(month) for month in past])
    finding = told(findings, "shop", "category")
    assert finding.status == "OK"
    assert "as ever" in finding.reason


# What cannot be compared.


def test_what_cannot_be_compared_is_one_finding_that_says_so():
    finding = insufficient("there is no champion yet")
    assert (finding.status, finding.reason) == ("INSUFFICIENT_DATA", "there is no champion yet")
    assert judge_month([finding]).drift_status == "INSUFFICIENT_DATA"


@pytest.mark.parametrize(
    ("rows", "words"),
    [(0, "has 0 comparable rows and needs 50"), (1, "has 1 comparable rows"), (49, "has 49 comparable rows")],
)
def test_too_few_rows_on_either_side_are_insufficient(months, rows, words):
    reference, current = months
    for pair in ((reference.slice(0, rows), current), (reference, current.slice(0, rows))):
        (finding,) = compare(*pair, "amount")
        assert finding.status == "INSUFFICIENT_DATA"
        # With one side empty no weekday is common, so the reference is the first to lack rows.
        assert words in finding.reason


def test_too_few_days_are_insufficient(months):
    (finding,) = compare(months[0], World(seed=7).window("2018-06-04", 4), "amount")
    assert finding.status == "INSUFFICIENT_DATA"
    assert finding.reason == "the current window has 4 days on weekdays that both windows have and needs 5"


def test_a_single_week_is_enough(months):
    reference, _ = months
    week = World(seed=7).window("2018-06-04", 7)
    assert status(compare(reference, week, "amount")) == "OK"
    doubled = replaced(week, "amount", amounts(week) * 2)
    assert status(compare(reference, doubled, "amount")) == "DRIFT"


def test_weekdays_that_one_window_lacks_are_left_out():
    # Monday to Friday only in the current window, and on the reference's weekends everything is different.
    world = World(seed=8)
    reference = world.window("2018-05-07", 28)
    weekend = np.array([moment.weekday() >= 5 for moment in reference["event_timestamp"].to_pylist()])
    reference = replaced(reference, "amount", np.where(weekend, 1e6, amounts(reference)))
    current = world.window("2018-06-04", 5)
    findings = compare(reference, current, "amount")
    assert status(findings) == "OK"
    alone = compare(reference.filter(pa.array(~weekend)), current, "amount")[0]
    assert (findings[0].psi, findings[0].statistic, findings[0].median_reference) == (
        alone.psi,
        alone.statistic,
        alone.median_reference,
    )


def test_no_features_are_insufficient(months):
    assert status(compare(*months)) == "INSUFFICIENT_DATA"


def test_a_constant_is_ok_for_a_reason_of_its_own(months):
    tables = [table.append_column("fixed", pa.array(np.full(table.num_rows, 5.0))) for table in months]
    finding = compare(*tables, "fixed", "noise")[0]
    assert (finding.status, finding.method, finding.p_value, finding.psi) == ("OK", "none", None, 0.0)
    assert finding.reason == "fixed is 5 in every row of both windows: nothing could move"


def test_a_constant_that_becomes_another_is_drift(months):
    tables = [
        table.append_column("fixed", pa.array(np.full(table.num_rows, value)))
        for table, value in zip(months, (5.0, 6.0), strict=True)
    ]
    finding = compare(*tables, "fixed")[0]
    assert finding.status == "DRIFT"
    assert finding.p_value < 1e-12
    assert finding.total_variation == 1
    assert math.isfinite(finding.statistic)


@pytest.mark.parametrize("nothing", [pa.nulls(1, pa.float64()), pa.array([math.nan]), pa.nulls(1)])
def test_a_feature_missing_throughout_is_ok_for_a_reason_of_its_own(months, nothing):
    tables = [table.append_column("empty", nothing.take(pa.array(np.zeros(table.num_rows, int)))) for table in months]
    finding = compare(*tables, "empty", "noise")[0]
    assert (finding.status, finding.p_value, finding.missing_current, finding.median_current) == ("OK", None, 1.0, None)
    assert finding.reason == "empty is missing in every row of both windows: nothing could move"


def test_a_column_that_the_month_has_lost_is_drift_and_the_data_s_fault(months):
    reference, current = months
    findings = compare(reference, current.drop_columns(["amount"]), "amount", "noise")
    finding = told(findings, "amount", "missing")
    assert (finding.status, finding.cause) == ("DRIFT", "lost_feature")
    assert finding.reason == "amount is lost: the current window does not have this column"
    assert judge_month(findings).blame == "data"


def test_a_column_that_the_reference_lacks_is_a_remark_and_no_standing_watch(months):
    reference, current = months
    findings = compare(reference.drop_columns(["amount"]), current, "amount", "noise")
    reason = "amount could not be compared: it is absent from the reference window"
    assert told(findings, "amount").reason == reason
    assert told(findings, "amount").status == "INSUFFICIENT_DATA"
    verdict = judge_month(findings)
    assert verdict.drift_status == "OK"
    assert reason in texts(verdict.reasons)


def test_a_column_that_changed_from_numbers_to_texts_is_lost(months):
    reference, current = months
    texts = pa.array([str(value) for value in current["amount"].to_pylist()])
    finding = told(compare(reference, replaced(current, "amount", texts), "amount"), "amount", "missing")
    assert (finding.status, finding.cause) == ("DRIFT", "lost_feature")


def test_what_is_neither_numbers_nor_texts_nor_dates_is_not_compared(months):
    tables = [table.append_column("blob", pa.array([b"x"] * table.num_rows)) for table in months]
    finding = told(compare(*tables, "blob"), "blob")
    assert finding.status == "INSUFFICIENT_DATA"
    assert finding.reason == "blob could not be compared: it is binary, no numbers, texts or dates"


def test_dates_are_compared_by_how_long_before_the_transaction_they_lie(months):
    rng = np.random.default_rng(5)

    def opened(table, age):
        days = table["event_timestamp"].cast(pa.date32()).cast(pa.int32()).to_numpy() - age
        return table.append_column("opened", pa.array(days.astype(np.int32)).cast(pa.date32()))

    ages = [rng.integers(0, 1000, table.num_rows) for table in months]
    quiet = [opened(table, age) for table, age in zip(months, ages, strict=True)]
    assert told(compare(*quiet, "opened"), "opened").status == "OK"
    older = opened(months[1], ages[1] + 400)
    finding = told(compare(quiet[0], older, "opened"), "opened")
    assert finding.status == "DRIFT"
    assert finding.median_current - finding.median_reference == pytest.approx(400, abs=20)


def test_of_a_feature_with_few_values_only_the_share_of_missing_is_compared(months):
    def with_values(table, number):
        values = np.full(table.num_rows, np.nan)
        values[:: table.num_rows // number] = 1.0
        return table.append_column("rare", pa.array(values))

    few = [with_values(table, 50) for table in months]
    finding = told(compare(*few, "rare"), "rare")
    assert finding.status == "INSUFFICIENT_DATA"
    assert "fewer than 100 values" in finding.reason
    many_missing_now_there = with_values(months[1], months[1].num_rows)
    assert told(compare(few[0], many_missing_now_there, "rare"), "rare", "missing").status == "DRIFT"


# Same data, same figures.


def test_neither_row_order_nor_chunks_nor_repetition_change_a_figure(year):
    reference, past, current = year
    shuffled = current.take(pa.array(np.random.default_rng(4).permutation(current.num_rows)))
    chunked = pa.concat_tables([reference.slice(0, 1000), reference.slice(1000)])
    others = {"past": past, "card": "customer_id"}
    features = ("amount", "customer_level", "noise")
    first = compare(reference, current, *features, **others)
    assert repr(compare(reference, current, *features, **others)) == repr(first)
    backwards = [month.take(pa.array(np.arange(month.num_rows)[::-1])) for month in past]
    assert repr(compare(chunked, shuffled, *features, past=backwards, card="customer_id")) == repr(first)


def test_row_order_does_not_even_change_the_digits_that_are_rounded_away(months, monkeypatch):
    for module in (drift, column_drift, clusters_module):
        monkeypatch.setattr(module, "stable", float)
    reference, current = months
    shuffled = current.take(pa.array(np.random.default_rng(4).permutation(current.num_rows)))
    backwards = reference.take(pa.array(np.arange(reference.num_rows)[::-1]))
    features = ("amount", "customer_level", "noise")
    assert repr(compare(backwards, shuffled, *features)) == repr(compare(reference, current, *features))


def test_null_and_nan_both_mean_missing(months):
    reference, current = months
    values = missing_share(0.1)(amounts(current), np.random.default_rng(3))
    as_null = current.set_column(current.column_names.index("amount"), "amount", pa.array(values, from_pandas=True))
    assert compare(reference, as_null, "amount") == compare(reference, replaced(current, "amount", values), "amount")


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_the_type_of_the_ids_does_not_matter(months, kind):
    as_text = [
        table.set_column(
            table.column_names.index("customer_id"),
            "customer_id",
            # Padded, so that text sorts as the numbers do.
            pa.array([f"{number:06d}" for number in table["customer_id"].to_pylist()], pa.string()).cast(kind),
        )
        for table in months
    ]
    assert compare(*as_text, "amount") == compare(*months, "amount")


def test_a_row_without_an_id_is_a_cluster_of_its_own(months):
    def with_ids(table, ids):
        return table.set_column(table.column_names.index("customer_id"), "customer_id", ids)

    nulls, strangers = [], []
    for table, first in zip(months, (10**6, 2 * 10**6), strict=True):
        ids = table["customer_id"].to_pylist()
        unknown = [row % 4 == 0 for row in range(len(ids))]
        nulls.append(with_ids(table, pa.array([None if u else i for u, i in zip(unknown, ids, strict=True)])))
        own = [first + row if u else i for row, (u, i) in enumerate(zip(unknown, ids, strict=True))]
        strangers.append(with_ids(table, pa.array(own)))
    left, right = (compare(*tables, "amount")[0] for tables in (nulls, strangers))
    assert left.statistic == pytest.approx(right.statistic, rel=1e-7)
    assert left.p_value == pytest.approx(right.p_value, rel=1e-7)


def test_a_column_with_one_id_for_all_rows_tells_nothing_and_is_left_out(months):
    single = [replaced(table, "terminal_id", np.zeros(table.num_rows, int)) for table in months]
    row = compare(*single, "amount")[0]
    assert row == compare(*months, "amount", clusters=("customer_id",))[0]
    assert row.method == "Rao-Scott chi-squared by day, customer_id"


def test_ids_that_are_all_missing_are_rows_that_stand_alone(months):
    without = [
        table.set_column(table.column_names.index("customer_id"), "customer_id", pa.nulls(table.num_rows))
        for table in months
    ]
    row, none = (compare(*without, "amount", clusters=clusters)[0] for clusters in (("customer_id",), ()))
    # Apart from the correction for the number of clusters, n / (n - 1), there is no difference.
    assert row.statistic == pytest.approx(none.statistic, rel=1e-3)


# Mistakes of the caller.


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda table: table.drop_columns(["terminal_id"]), "current table has no column 'terminal_id'"),
        (lambda table: table.drop_columns(["event_timestamp"]), "no column 'event_timestamp'"),
        (
            lambda table: table.set_column(
                0, "event_timestamp", pa.nulls(table.num_rows, pa.timestamp("us", tz="UTC"))
            ),
            "null in",
        ),
        (
            lambda table: table.set_column(0, "event_timestamp", table["event_timestamp"].cast(pa.int64())),
            "must be a timestamp",
        ),
        (
            lambda table: replaced(table, "customer_id", ["who"] * table.num_rows),
            "customer_id is int64 in the reference, string in the current table",
        ),
    ],
)
def test_tables_without_what_every_table_has_are_refused(months, spoil, words):
    reference, current = months
    with pytest.raises(ValueError, match=words):
        compare(reference, spoil(current), "amount")


@pytest.mark.parametrize(
    "wrong",
    [
        {"bins": 1},
        {"drift_p": 0.1},
        {"delivered_drift_p": 0.1},
        {"watch_p": 1.0},
        {"psi_limit": 0.0},
        {"min_rows": 0},
        {"min_days": 1},
        {"share_floor": math.nan},
    ],
)
def test_limits_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DriftConfig(**wrong)
