"""Label drift: how long reports take and how many there are, in worlds where it is known what changed."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.months import month_end, month_start, months_between, shift_month
from fraud_assets.core.performance.label_drift import label_findings
from fraud_assets.core.windows import matured_window

TIME = pa.timestamp("us", "UTC")
MONTH, MATURITY = "2025-06", 14
START, AS_OF = month_start(MONTH), month_end(MONTH)
FIRST = month_start("2025-01")
DAY = dt.timedelta(days=1)
DAYS = (AS_OF - FIRST) // DAY
WINDOWS = [matured_window(month, MATURITY) for month in months_between(shift_month(MONTH, -3), MONTH)]


def usual_delay(draws):
    return DAY * float(draws.lognormal(np.log(5), 0.5))


def frauds(a_day=lambda day: 20, delay=lambda moment, draws: usual_delay(draws), reported=lambda moment, draws: True):
    """Statements about frauds: how many a day, how long until they are reported, and whether they ever are."""
    draws, stated = np.random.default_rng(1), []
    for day in range(DAYS):
        for _ in range(a_day(FIRST + day * DAY)):
            moment = FIRST + DAY * (day + float(draws.random()))
            if reported(moment, draws):
                stated.append((moment, moment + delay(moment, draws)))
    happened, known = zip(*stated, strict=True)
    n = len(stated)
    return pa.table(
        {
            "transaction_id": pa.array(range(n)),
            "event_timestamp": pa.array(happened, TIME),
            "customer_id": draws.integers(0, 10**9, n),
            "is_fraud": pa.array([True] * n),
            "label_timestamp": pa.array(known, TIME),
            "label_source": pa.array(["chargeback"] * n),
        }
    )


MOMENTS = pa.chunked_array([pa.array([FIRST + DAY * (row / 500) for row in range(DAYS * 500)], TIME)])


def found(statements, windows=WINDOWS):
    given = label_findings(
        MOMENTS, statements, windows, start=START, as_of=AS_OF, maturity_days=MATURITY, clusters=["customer_id"]
    )
    return {one.feature: one for one in given}


def said(findings):
    return {feature: (one.status, one.cause) for feature, one in findings.items()}


def late(moment, draws):
    """What would have been reported in the month comes two weeks later."""
    delay = usual_delay(draws)
    return delay + (14 * DAY if moment + delay >= START else 0 * DAY)


def test_labels_that_come_as_ever_are_ok():
    assert set(said(found(frauds())).values()) == {("OK", None)}


def test_labels_that_come_two_weeks_later_are_late_and_not_fewer_frauds():
    findings = found(frauds(delay=late))
    assert said(findings)["delay_days"] == ("DRIFT", "label_delay")
    assert said(findings)["known_frauds"] == ("DRIFT", "label_delay")
    assert findings["delay_days"].value_reference == pytest.approx(5, abs=0.3)
    assert findings["delay_days"].value_current > 17
    assert "later than usual" in findings["delay_days"].reason


def test_twice_the_frauds_are_a_fraud_rate_and_no_shorter_delays():
    """Since mid-May, so that all of the matured window has twice as many; young frauds are then over-represented."""
    findings = found(frauds(a_day=lambda day: 40 if day >= WINDOWS[-1].start else 20))
    assert said(findings)["fraud_rate"] == ("DRIFT", "fraud_rate")
    assert said(findings)["delay_days"] == ("OK", None)
    rate = findings["fraud_rate"]
    assert rate.value_current / rate.value_reference == pytest.approx(2, abs=0.15)


def test_ten_times_the_frauds_from_the_month_s_first_day_are_no_shorter_delays():
    """Of what is reported in the month, fewer are then from before it, whose delays are the longer ones."""
    delays = found(frauds(a_day=lambda day: 100 if day >= START else 10))["delay_days"]
    assert (delays.status, delays.cause) == ("OK", None)
    assert delays.total_variation < 0.03


def test_the_fraud_rate_is_frauds_over_transactions_once_all_are_known():
    """20 frauds a day in 500 transactions."""
    rate = found(frauds())["fraud_rate"]
    assert rate.value_current == pytest.approx(20 / 500, rel=0.03)
    assert rate.value_low < 20 / 500 < rate.value_high


def test_frauds_that_are_not_reported_are_few_labels_and_not_a_lower_fraud_rate():
    statements = frauds(reported=lambda moment, draws: moment < WINDOWS[-1].start or draws.random() < 0.4)
    findings = found(statements)
    assert said(findings)["fraud_rate"] == ("DRIFT", "few_labels")
    assert said(findings)["delay_days"] == ("OK", None)


def test_reports_that_stopped_are_few_labels():
    assert said(found(frauds(reported=lambda moment, draws: moment < START)))["known_frauds"] == ("DRIFT", "few_labels")


def test_labels_that_always_take_a_week_are_ok():
    """As in the Handbook data. Nothing is known of younger ones, and nothing can be."""
    findings = found(frauds(delay=lambda moment, draws: 7 * DAY))
    assert said(findings)["delay_days"] == ("OK", None)
    assert said(findings)["fraud_rate"] == ("OK", None)


def test_where_no_report_can_be_in_yet_nothing_is_too_few():
    """Reports take 20 days, and what has not matured is younger than 14."""
    known = found(frauds(delay=lambda moment, draws: 20 * DAY))["known_frauds"]
    assert (known.status, known.cause) == ("INSUFFICIENT_DATA", None)
    assert "no fraud can be known yet" in known.reason


def test_without_earlier_months_delays_are_compared_and_counts_are_not():
    findings = found(frauds(delay=late), WINDOWS[-1:])
    assert said(findings)["delay_days"] == ("DRIFT", "label_delay")
    assert said(findings)["fraud_rate"] == ("INSUFFICIENT_DATA", None)


def test_where_late_labels_have_become_usual_their_maturity_is_too_short():
    """All delays are two weeks longer than the simulator's, and labels are called final after two weeks."""
    findings = found(frauds(delay=lambda moment, draws: usual_delay(draws) + 14 * DAY))
    assert said(findings)["delay_days"] == ("OK", None)
    assert said(findings)["fraud_rate"] == ("WATCH", "label_delay")
    assert "maturity_days is too short" in findings["fraud_rate"].reason


def test_labels_that_come_sooner_are_worth_a_look_and_no_alarm():
    """Half as long, of all that happened in the month."""
    sooner = frauds(delay=lambda moment, draws: usual_delay(draws) / (2 if moment >= START else 1))
    assert said(found(sooner))["delay_days"] == ("WATCH", "label_delay")


def test_labels_that_took_a_week_and_now_take_nine_days_are_late():
    later = frauds(delay=lambda moment, draws: 9 * DAY if moment + 7 * DAY >= START else 7 * DAY)
    assert said(found(later))["delay_days"] == ("DRIFT", "label_delay")


def test_frauds_of_one_customer_are_less_surely_more_frauds():
    statements = frauds(a_day=lambda day: 28 if day >= WINDOWS[-1].start else 20)
    one = statements.set_column(2, "customer_id", pa.array(np.arange(len(statements)) // 100))
    assert found(statements)["fraud_rate"].p_value < found(one)["fraud_rate"].p_value


def test_what_becomes_known_after_the_month_changes_nothing():
    statements = frauds()
    known = statements.filter(pa.array([moment <= AS_OF for moment in statements["label_timestamp"].to_pylist()]))
    assert len(known) < len(statements)
    assert found(statements) == found(known)


def test_the_order_of_statements_changes_nothing():
    statements = frauds(delay=late)
    assert found(statements.take(np.random.default_rng(0).permutation(len(statements)))) == found(statements)


def test_without_known_frauds_nothing_can_be_compared():
    findings = found(frauds().slice(0, 0))
    assert set(said(findings).values()) == {("INSUFFICIENT_DATA", None)}
    assert set(findings) == {"delay_days", "known_frauds", "fraud_rate"}
