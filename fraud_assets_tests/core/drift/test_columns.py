"""How a column is tested: its parts by figures worked out by hand, the whole by a plain-loop version of formulas."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chi2

from fraud_assets.core.drift.cells import reference_cuts
from fraud_assets.core.drift.columns import (
    jensen_shannon_distance,
    population_stability_index,
    total_variation,
    with_months,
)
from fraud_assets.core.drift.findings import holm
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.statistics.clusters import weekday_weights
from fraud_assets_tests.core.quiet_months import CLUSTERS, World, amounts, compare, replaced


def shares(*values):
    return np.array(values, dtype=float)


# Figures by hand.


def test_few_months_are_no_proof_that_months_do_not_differ():
    mean, rows = np.array([0.5, 0.5]), np.array([[4.0, -4.0], [-4.0, 4.0]])
    # A matrix of rank one has as many degrees of freedom as there are months, less one: whether they add to what rows
    # explain or not.
    for months, expected in ((rows / 4, rows), (rows * 3, rows * 3)):
        total, freedom = with_months(rows, months, mean, 5)
        assert total == pytest.approx(expected)
        assert freedom == pytest.approx(5)
    # Beyond two of size 1 one of 9, so 11 in all: 5 (11 / 9)^2, which is less than 5 times 2.
    assert with_months(np.eye(2), np.diag([10.0, 1.0]), mean, 5)[1] == pytest.approx(5 * (11 / 9) ** 2)
    assert with_months(np.eye(2), np.diag([4.0, 1.0]), mean, 5)[1] == pytest.approx(10)
    assert with_months(np.zeros((2, 2)), np.eye(2), mean, 5)[1] == pytest.approx(10)
    # Of two equal and independent ones, tr T^2 is half of (tr T)^2.
    assert with_months(np.eye(2), np.zeros((2, 2)), mean, 5)[1] == pytest.approx(10)
    assert with_months(np.zeros((2, 2)), np.zeros((2, 2)), mean, 5)[1] == math.inf


def test_psi_of_halves_against_quarters_is_a_quarter_of_the_logarithm_of_three():
    # (1/4 - 1/2) ln(1/2) + (3/4 - 1/2) ln(3/2) = 1/4 (ln 2 + ln 3/2) = 1/4 ln 3
    psi = population_stability_index(shares(0.5, 0.5), shares(0.25, 0.75), floor=1e-4)
    assert psi == pytest.approx(0.25 * math.log(3))


def test_psi_counts_an_empty_bin_as_the_floor():
    # (0.9 - 1) ln 0.9 + (0.1 - 0.0001) ln(0.1 / 0.0001) = 0.010536 + 0.690085; bins empty on both sides: 0
    psi = population_stability_index(shares(1, 0, 0), shares(0.9, 0.1, 0), floor=1e-4)
    assert psi == pytest.approx(0.700621, abs=1e-6)


@pytest.mark.parametrize(
    ("reference", "current", "distance"),
    [
        (shares(0.3, 0.7), shares(0.3, 0.7), 0.0),
        (shares(1, 0), shares(0, 1), 1.0),
        # middle (3/4, 1/4): 1/2 log2(4/3) + 1/2 (1/2 log2(2/3) + 1/2 log2 2) = 0.311278, root 0.557923
        (shares(1, 0), shares(0.5, 0.5), 0.557923),
    ],
)
def test_the_jensen_shannon_distance_goes_from_0_to_1(reference, current, distance):
    assert jensen_shannon_distance(reference, current) == pytest.approx(distance, abs=1e-6)


def test_total_variation_is_the_share_of_rows_in_another_bin():
    assert total_variation(shares(0.5, 0.3, 0.2), shares(0.4, 0.3, 0.3)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # ascending: 4 x 0.005, 3 x 0.01, 2 x 0.03 = 0.06, and 1 x 0.04 is not below the one before: 0.06
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.4, 0.9], [0.8, 0.9]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_multiplies_by_the_number_of_hypotheses_that_are_left(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_a_weekday_that_comes_more_often_weighs_less():
    # 2018-06-01 is a Friday: June has five Fridays and Saturdays and four of the others, so 20/5 and 20/4.
    first = (date(2018, 6, 1) - date(1970, 1, 1)).days
    weights = weekday_weights(np.arange(first, first + 30), range(7))
    assert weights[:7].tolist() == [4, 4, 5, 5, 5, 5, 5]
    assert weights[28:].tolist() == [4, 4]


def test_days_of_a_weekday_that_is_not_asked_for_weigh_nothing():
    assert weekday_weights(np.array([4, 5, 6]), [0, 2]).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("values", "cuts"),
    [
        (np.arange(1.0, 101.0), np.arange(10.0, 100.0, 10.0)),
        # 95 zeros and 5 ones: all deciles are 0, which gets a bin to itself
        (np.repeat([0.0, 1.0], [95, 5]), [0.0, np.nextafter(0, 1)]),
        (np.repeat([0.0, 1.0], [5, 95]), [1.0, np.nextafter(1, 2)]),
        (np.full(100, 5.0), [5.0, np.nextafter(5, 6)]),
        # 85 zeros: deciles 0 up to the eighth, then the value of rank 90
        (np.concatenate([np.zeros(85), np.arange(1.0, 16.0)]), [0.0, np.nextafter(0, 1), 5.0]),
    ],
)
def test_cuts_are_deciles_and_a_frequent_value_has_a_bin_to_itself(values, cuts):
    assert reference_cuts(values, 10).tolist() == list(cuts)


# The test statistic.


def by_loops(reference, current, feature, clusters, cuts):
    """Statistic and p by the formulas as they stand: one row, one cluster, one day at a time."""
    number = len(cuts) + 2
    sides = []
    for table in (reference, current):
        rows = table.to_pylist()
        days_of = defaultdict(set)
        for row in rows:
            row["day"] = row["event_timestamp"].date()
            days_of[row["day"].weekday()].add(row["day"])
            value = row[feature]
            missing = value is None or math.isnan(value)
            row["bin"] = number - 1 if missing else sum(cut <= value for cut in cuts)
        in_window = sum(len(days) for days in days_of.values())
        rows = [row for row in rows if row["bin"] < number - 1]
        for row in rows:
            row["w"] = in_window / 7 / len(days_of[row["day"].weekday()])
        total = sum(row["w"] for row in rows)
        p = np.zeros(number)
        for row in rows:
            p[row["bin"]] += row["w"] / total
        for row in rows:
            row["u"] = row["w"] * (np.eye(number)[row["bin"]] - p) / total
        sides.append((rows, days_of, p))
    every = [(sign, row) for sign, (rows, _, _) in zip((-1, 1), sides, strict=True) for row in rows]
    v_row = sum(np.outer(row["u"], row["u"]) for _, row in every)
    v2 = (1 - len(clusters)) * v_row if clusters else v_row
    for name in clusters:
        u = defaultdict(lambda: np.zeros(number))
        for sign, row in every:
            u[row[name]] = u[row[name]] + sign * row["u"]
        v2 = v2 + len(u) / (len(u) - 1) * sum(np.outer(x, x) for x in u.values())
    v_day = np.zeros((number, number))
    for rows, days_of, _ in sides:
        for days in days_of.values():
            u = [sum(row["u"] for row in rows if row["day"] == day) for day in sorted(days)]
            u = np.array(u) - np.mean(u, axis=0)
            v_day += len(days) / (len(days) - 1) * u.T @ u

    def psd(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(values.clip(0)) @ vectors.T

    d, mean = sides[1][2] - sides[0][2], (sides[0][2] + sides[1][2]) / 2
    keep = mean > 0
    v = (psd(v2) + psd(v_day - v_row))[keep][:, keep] / np.sqrt(np.outer(mean[keep], mean[keep]))
    alpha, nu = np.trace(v @ v) / np.trace(v), np.trace(v) ** 2 / np.trace(v @ v)
    statistic = (d[keep] ** 2 / mean[keep]).sum() / alpha
    return statistic, chi2.sf(statistic, nu)


@pytest.mark.parametrize("clusters", [(), ("customer_id",), CLUSTERS])
def test_the_statistic_is_that_of_the_formulas_taken_row_by_row(clusters):
    world = World(seed=3, customers=40, terminals=30)
    reference, current = world.window("2018-05-01", 17), world.window("2018-06-01", 16)
    values = amounts(reference)
    values[::9] = np.nan
    reference = replaced(reference, "amount", values)
    current = replaced(current, "amount", amounts(current) * 1.1)
    row = compare(reference, current, "amount", clusters=clusters, config=DriftConfig(bins=5, min_rows=100))[0]
    cuts = reference_cuts(np.sort(values[~np.isnan(values)]), 5)
    statistic, p_value = by_loops(reference, current, "amount", clusters, cuts)
    assert row.statistic == pytest.approx(statistic, rel=1e-6)
    assert row.p_value == pytest.approx(p_value, rel=1e-6)


def p_values(worlds, feature="amount", clusters=CLUSTERS, **options):
    """The p of each of as many worlds, in none of which anything moved."""
    return [compare(*World(seed).months(**options), feature, clusters=clusters)[0].p_value for seed in range(worlds)]


def test_shocks_that_a_day_shares_are_no_more_often_called_drift_than_the_level_says():
    # 5 of 100 are expected; 13 or more have a chance of 0.2 %. Without the day part it is about 37.
    values = p_values(100, day_shock=0.15)
    assert sum(p < 0.05 for p in values) <= 12
    # Not by sleeping: p reaches all over.
    assert min(values) < 0.1
    assert max(values) > 0.8


def test_customers_who_come_more_or_less_often_are_drift_only_to_those_who_take_rows_for_independent():
    blind = p_values(20, "customer_level", clusters=(), pace_shock=0.3)
    aware = p_values(20, "customer_level", pace_shock=0.3)
    assert sum(p < 0.05 for p in blind) >= 15
    assert sum(p < 0.05 for p in aware) <= 4  # expected 1; 5 or more have a chance of 0.3 %


def test_the_calendar_of_a_month_is_not_drift():
    # The same volume every day; May 2018 has five Tuesdays of 31 days (16 %), June four of 30 (13 %).
    tables = []
    for start, days in ((datetime(2018, 5, 1, tzinfo=UTC), 31), (datetime(2018, 6, 1, tzinfo=UTC), 30)):
        moments = [start + timedelta(days=day, hours=hour) for day in range(days) for hour in range(20)]
        tables.append(
            pa.table(
                {
                    "event_timestamp": pa.array(moments, pa.timestamp("us", tz="UTC")),
                    "tuesday": [float(moment.weekday() == 1) for moment in moments],
                }
            )
        )
    row = compare(*tables, "tuesday", clusters=())[0]
    assert row.total_variation == pytest.approx(0, abs=1e-12)
    assert row.status == "OK"


def test_a_large_move_that_chance_explains_is_not_drift():
    # Twenty customers, other ones every month, each with one amount of their own: PSI is large, proof is not.
    rng = np.random.default_rng(5)
    tables = []
    for month, first in (("2018-05-01", 0), ("2018-06-01", 100)):
        customer = np.tile(np.arange(20), 30 * 3)
        tables.append(
            pa.table(
                {
                    "event_timestamp": pa.array(
                        np.datetime64(month, "us") + np.repeat(np.arange(30), 60) * np.timedelta64(1, "D"),
                        pa.timestamp("us", tz="UTC"),
                    ),
                    "customer_id": customer + first,
                    "amount": rng.lognormal(3, 1, 20)[customer],
                }
            )
        )
    row = compare(*tables, "amount", clusters=("customer_id",))[0]
    assert row.psi > 0.1
    assert row.status == "OK"
    assert "not beyond chance" in row.reason
