"""Histograms: what is drawn of a move is what was tested."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.drift.columns import population_stability_index
from fraud_assets.core.drift.covariate import measure_drift
from fraud_assets.core.drift.histograms import Histogram, bin_labels, histogram
from fraud_assets.core.drift.limits import DriftConfig

CONFIG = DriftConfig()
MONDAY, TUESDAY = datetime(2025, 1, 6, tzinfo=UTC), datetime(2025, 1, 7, tzinfo=UTC)


def rows(values: list[Any], moments: list[datetime] | None = None, kind: pa.DataType | None = None) -> pa.Table:
    moments = moments or [MONDAY] * len(values)
    return pa.table({"event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")), "x": pa.array(values, kind)})


def drawn(reference: pa.Table, current: pa.Table, config: DriftConfig = CONFIG) -> Histogram:
    found = histogram(reference, current, "x", config)
    assert found is not None
    return found


def test_shares_are_of_bins_of_the_reference() -> None:
    # The median of 1 to 10, as a value that occurs, is 5: 4 of 10 lie below it, and of the current values 3 of 4.
    found = drawn(rows([*map(float, range(1, 11))]), rows([1.0, 2.0, 4.9, 100.0]), replace(CONFIG, bins=2))
    assert found.labels == ("below 5", "5 and more")
    assert found.reference == pytest.approx((0.4, 0.6))
    assert found.current == pytest.approx((0.75, 0.25))


def test_each_weekday_has_the_same_say() -> None:
    # Two Mondays of small values and one Tuesday of large ones: half and half, as in a month with as many of each.
    mondays = [MONDAY, MONDAY, MONDAY + timedelta(days=7), MONDAY + timedelta(days=7)]
    reference = rows([1.0, 1.0, 1.0, 1.0, 9.0, 9.0], [*mondays, TUESDAY, TUESDAY])
    current = rows([1.0, 9.0], [MONDAY, TUESDAY])
    found = drawn(reference, current)
    assert found.labels == ("1", "9")
    assert found.reference == pytest.approx((0.5, 0.5))
    assert found.current == pytest.approx((0.5, 0.5))


def test_missing_values_are_told_apart_and_are_no_bin() -> None:
    found = drawn(rows([1.0, 2.0, None, 2.0]), rows([None, None, 1.0, float("nan")]), replace(CONFIG, bins=2))
    assert (found.missing_reference, found.missing_current) == pytest.approx((0.25, 0.75))
    assert sum(found.reference) == pytest.approx(1)
    assert sum(found.current) == pytest.approx(1)


def test_texts_are_drawn_by_frequency_then_the_others_then_the_new_ones() -> None:
    reference = rows(["travel"] * 5 + ["food"] * 3 + ["fuel", "toys"])
    found = drawn(reference, rows(["travel", "fuel", "games", "games"]), replace(CONFIG, categories=2))
    assert found.labels == ("travel", "food", "all others", "new values")
    assert found.reference == pytest.approx((0.5, 0.3, 0.2, 0.0))
    assert found.current == pytest.approx((0.25, 0.0, 0.25, 0.5))


def test_a_flag_has_a_bin_for_each_of_its_values() -> None:
    found = drawn(rows([0.0] * 95 + [1.0] * 5, kind=pa.float32()), rows([0.0, 1.0], kind=pa.float32()))
    assert found.labels == ("0", "above 0")
    assert found.reference == pytest.approx((0.95, 0.05))


def test_the_picture_has_the_psi_of_the_finding() -> None:
    random = np.random.default_rng(3)
    days = [MONDAY + timedelta(days=int(day), hours=int(hour)) for day in range(28) for hour in range(24)]
    reference = rows(random.gamma(2, 30, len(days)).tolist(), days)
    later = [day + timedelta(days=31) for day in days]
    current = rows(random.gamma(2, 33, len(later)).tolist(), later)
    (finding, *_) = measure_drift(reference, current, features=["x"], clusters=[], config=CONFIG)
    found = drawn(reference, current)
    psi = population_stability_index(np.array(found.reference), np.array(found.current), CONFIG.share_floor)
    assert psi == pytest.approx(finding.psi, rel=1e-6)


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        pytest.param(rows([1.0, 2.0]), rows([]), id="an empty month"),
        pytest.param(rows([1.0]), rows([1.0]).drop_columns("x"), id="a lost column"),
        pytest.param(rows([1.0]), rows(["a"]), id="another type"),
        pytest.param(rows([None, None], kind=pa.float64()), rows([1.0]), id="a reference without values"),
        pytest.param(rows([1.0], [MONDAY]), rows([1.0], [TUESDAY]), id="no weekday in common"),
    ],
)
def test_where_nothing_can_be_drawn_nothing_is(reference: pa.Table, current: pa.Table) -> None:
    assert histogram(reference, current, "x", CONFIG) is None


def test_neighbouring_edges_are_told_apart() -> None:
    assert bin_labels(np.array([1.2341, 1.2342])) == ["below 1.2341", "1.2341 to 1.2342", "1.2342 and more"]


def test_large_edges_are_written_out() -> None:
    assert bin_labels(np.array([1500.0, 250000.0])) == ["below 1,500", "1,500 to 250,000", "250,000 and more"]
