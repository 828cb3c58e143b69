"""Label completeness: the delay curve, what is still to come, and what is too few, worked out by hand."""

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.labels.completeness import MINIMUM_EARLIER_MONTHS, delay_curve, label_completeness
from fraud_assets.core.months import month_end, month_start, months_between

TIME = pa.timestamp("us", "UTC")


def day(month, number, hour=0):
    return month_start(month) + dt.timedelta(days=number - 1, hours=hour)


def days(number):
    return dt.timedelta(days=number)


def hours_of(*rows):
    """Rows of (first instant of the hour, transactions)."""
    return pa.table(
        {"hour": pa.array([row[0] for row in rows], TIME), "n": pa.array([row[1] for row in rows], pa.int64())}
    )


def statements(*rows):
    """Rows of (transaction id, happened, is fraud, known)."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 4
    return pa.table(
        {
            "transaction_id": pa.array(columns[0], pa.int64()),
            "event_timestamp": pa.array(columns[1], TIME),
            "is_fraud": pa.array(columns[2], pa.bool_()),
            "label_timestamp": pa.array(columns[3], TIME),
            "label_source": pa.array(["chargeback"] * len(columns[0]), pa.string()),
        }
    )


def complete(counts, stated, *months, as_of=None, blank="genuine_when_mature"):
    return label_completeness(
        hours_of(*counts),
        statements(*stated),
        as_of or month_end(months[-1]),
        maturity_days=14,
        months=[(month, month_start(month), month_end(month)) for month in months],
        blank=blank,
    )


# The curve


def test_the_delay_curve_is_the_product_of_reverse_hazards():
    curve = delay_curve(np.array([1.0, 2.0, 2.0, 4.0]), np.array([5.0, 5.0, 2.0, 5.0]))
    # At 4 days three were old enough to be seen, one of them was: 1/3. At 2 days two of three: 2/3.
    assert curve.days.tolist() == [1, 2, 4]
    assert curve.share == pytest.approx([1 / 3 * 2 / 3, 2 / 3, 1])
    assert curve.at(np.array([0.5, 1, 1.9, 2, 3.9, 4, 100])) == pytest.approx([0, 2 / 9, 2 / 9, 2 / 3, 2 / 3, 1, 1])


def test_where_all_are_old_enough_the_curve_is_the_empirical_distribution():
    curve = delay_curve(np.array([3.0, 1.0, 3.0, 8.0]), np.full(4, 9.0))
    assert curve.share == pytest.approx([0.25, 0.75, 1])


def test_delays_that_the_age_cut_off_do_not_shorten_the_curve():
    random = np.random.default_rng(5)
    ages, delays = random.uniform(0, 40, 20_000), random.exponential(8, 20_000)
    seen = delays <= ages
    curve, points = delay_curve(delays[seen], ages[seen]), np.array([4.0, 8.0, 16.0])
    truth = -np.expm1(-points / 8) / -np.expm1(-40 / 8)
    assert curve.at(points) == pytest.approx(truth, abs=0.01)
    naive = [(delays[seen] <= point).mean() for point in points]
    assert np.all(np.array(naive) - truth > 0.05)


def test_without_a_fraud_there_is_no_curve_and_nothing_to_expect():
    assert delay_curve(np.empty(0), np.empty(0)).at(np.array([3.0])).tolist() == [0]
    found = complete([(day("2018-04", 2), 50)], [], "2018-04").months[0]
    assert (found.n, found.n_fraud, found.known_share, found.still_to_come, found.expected) == (50, 0, None, None, None)


# What is still to come

# Of March's frauds half are reported after one day, half after twenty.
MARCH = [(number, day("2018-03", 1), True, day("2018-03", 1) + days(1 if number % 2 else 20)) for number in range(10)]
MARCH_AND_APRIL = [
    (day("2018-03", 1), 300),
    (day("2018-04", 5), 100),  # 26 days old at the end of April: all known
    (day("2018-04", 20), 100),  # 11 days old: half
]
APRIL = [(100 + number, day("2018-04", 5), True, day("2018-04", 6)) for number in range(6)]


def test_what_is_still_to_come_follows_from_the_share_that_is_known():
    march, april = complete(MARCH_AND_APRIL, MARCH + APRIL, "2018-03", "2018-04").months
    assert (march.n, march.n_matured, march.n_fraud, march.known_share, march.still_to_come) == (300, 300, 10, 1, 0)
    assert march.is_matured
    assert (april.n, april.n_matured, april.n_fraud) == (200, 100, 6)
    assert not april.is_matured
    assert april.known_share == pytest.approx(0.75)
    # 6 known are three quarters of 8.
    assert april.still_to_come == pytest.approx(2)


def test_where_blanks_are_unknown_nothing_is_expected_of_what_nobody_may_look_into():
    _, april = complete(MARCH_AND_APRIL, MARCH + APRIL, "2018-03", "2018-04", blank="unknown").months
    assert (april.n, april.n_fraud) == (200, 6)
    assert (april.known_share, april.still_to_come, april.expected, april.is_short) == (None, None, None, False)


def test_the_interval_of_what_is_still_to_come_is_that_of_the_negative_binomial():
    april = complete(MARCH_AND_APRIL, MARCH + APRIL, "2018-03", "2018-04").months[1]
    # P(k) = Gamma(k + 6.5) / (k! Gamma(6.5)) 0.75^6.5 0.25^k, added up to 2.5 % and 97.5 %
    cumulative = np.cumsum(
        [
            math.exp(math.lgamma(k + 6.5) - math.lgamma(k + 1) - math.lgamma(6.5)) * 0.75**6.5 * 0.25**k
            for k in range(40)
        ]
    )
    assert april.still_to_come_low == np.searchsorted(cumulative, 0.025)
    assert april.still_to_come_high == np.searchsorted(cumulative, 0.975)


def test_a_month_too_young_for_any_report_says_nothing_of_what_is_to_come():
    april = complete([(day("2018-03", 1), 300), (day("2018-04", 30, 12), 10)], MARCH, "2018-03", "2018-04").months[1]
    assert (april.known_share, april.still_to_come) == (0, None)


def test_nothing_that_becomes_known_later_counts():
    late = [(100 + number, day("2018-04", 5), True, day("2018-05", 1) + days(1)) for number in range(6)]
    assert complete(MARCH_AND_APRIL, MARCH + late, "2018-03", "2018-04").months == complete(
        MARCH_AND_APRIL, MARCH, "2018-03", "2018-04"
    ).months  # fmt: skip


def test_a_withdrawn_report_a_premature_one_and_one_about_an_unseen_transaction_are_no_frauds():
    odd = [
        (201, day("2018-04", 5), True, day("2018-04", 6)),
        (201, day("2018-04", 5), None, day("2018-04", 7)),
        (202, day("2018-04", 5), True, day("2018-04", 4)),
        (203, None, True, day("2018-04", 6)),
    ]
    assert complete(MARCH_AND_APRIL, MARCH + APRIL + odd, "2018-03", "2018-04").months[1].n_fraud == 6


def test_a_repeated_report_counts_once_with_its_first_delay():
    again = [(number, happened, fraud, known + days(1)) for number, happened, fraud, known in MARCH]
    found = complete(MARCH_AND_APRIL, MARCH + again + APRIL, "2018-03", "2018-04")
    assert found.curve.days.tolist() == [1, 20]
    assert found.months[0].n_fraud == 10


def test_the_newest_month_has_a_curve_of_its_own_and_no_part_in_the_other():
    found = complete(MARCH_AND_APRIL, MARCH + APRIL, "2018-03", "2018-04")
    assert (found.newest.days.tolist(), found.newest.share.tolist()) == ([1], [1])
    assert found.curve.share == pytest.approx([0.5, 1])


def test_a_transaction_at_the_border_belongs_to_the_month_that_begins():
    counts = [*MARCH_AND_APRIL, (day("2018-04", 1), 7)]
    border = [(300, day("2018-04", 1), True, day("2018-04", 2))]
    march, april = complete(counts, MARCH + border, "2018-03", "2018-04").months
    assert (march.n, april.n, march.n_fraud, april.n_fraud) == (300, 207, 10, 1)


def test_late_reports_of_frauds_from_before_the_first_month_do_not_lengthen_the_curve():
    older = [(400, day("2018-01", 5), True, day("2018-03", 2))]
    found = complete(MARCH_AND_APRIL, MARCH + APRIL + older, "2018-03", "2018-04")
    assert found.curve.days.tolist() == [1, 20]


# What should be known


def of_frauds(*known, month="2018-01"):
    """Months with 1,000 transactions and so many frauds each on the first day, reported a day later."""
    names = months_between(month, "2018-12")[: len(known)]
    counts = [(day(name, 1), 1000) for name in names]
    stated = [
        (1000 * position + number, day(name, 1), True, day(name, 2))
        for position, (name, frauds) in enumerate(zip(names, known, strict=True))
        for number in range(frauds)
    ]
    return complete(counts, stated, *names).months


def test_what_should_be_known_follows_from_the_months_before():
    last = of_frauds(90, 110, 100, 100)[-1]
    assert last.expected == pytest.approx(100)
    # Pearson's chi-squared of 90, 110, 100 is 2; over two degrees of freedom 1: no more than chance. The variance of a
    # fourth is 100 (1 + 1/3), and Student's t with 2 degrees of freedom is 9.925 at 99.5 %.
    assert last.expected_low == pytest.approx(max(0, 100 - 9.925 * math.sqrt(100 * 4 / 3)), abs=0.01)
    assert not last.is_short


@pytest.mark.parametrize(("known", "is_short"), [(43, True), (44, False)])
def test_a_month_is_short_below_the_limit(known, is_short):
    # Of 100, 120, 80, 100, 100, 100, 100, 100 the chi-squared is 8, over 7 degrees of freedom 8/7. The limit is
    # 100 - 3.4995 sqrt(8/7 * 100 * 9/8) = 60.3.
    months = of_frauds(100, 120, 80, 100, 100, 100, 100, 100, known + 17)
    assert months[-1].expected_low == pytest.approx(100 - 3.4995 * math.sqrt(8 / 7 * 100 * 9 / 8), abs=0.01)
    assert months[-1].is_short == is_short


def test_with_too_few_months_before_nothing_is_said_to_be_short():
    months = of_frauds(*[100] * MINIMUM_EARLIER_MONTHS, 0)
    assert [month.expected for month in months[:-1]] == [None] * MINIMUM_EARLIER_MONTHS
    assert months[-1].expected == pytest.approx(100)
    assert not any(month.is_short for month in months[:-1])


def test_a_rate_that_varies_widens_the_limit():
    calm, wild = of_frauds(100, 100, 100, 100, 100)[-1], of_frauds(40, 160, 100, 100, 100)[-1]
    assert calm.expected == wild.expected == pytest.approx(100)
    assert wild.expected_low < calm.expected_low


def test_only_months_that_were_not_settled_at_a_moment_are_named_as_short():
    counts = [(day(month, 1), 1000) for month in months_between("2018-01", "2018-12")]
    stated = [
        (1000 * position + number, day(month, 1), True, day(month, 2))
        for position, month in enumerate(months_between("2018-01", "2018-08"))
        for number in range(100)
    ]
    found = complete(counts, stated, *months_between("2018-01", "2018-12"))
    assert [month.month for month in found.months if month.is_short] == ["2018-09", "2018-10", "2018-11", "2018-12"]
    # Of a maturity of 14 days, all of October has matured at 15 November.
    assert [month.month for month in found.short_since(day("2018-11", 15))] == ["2018-11", "2018-12"]
    assert [month.month for month in found.short_since(day("2018-11", 14))] == ["2018-10", "2018-11", "2018-12"]
