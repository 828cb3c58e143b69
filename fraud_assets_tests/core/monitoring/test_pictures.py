"""What is drawn of a report is what was tested, and comes back from the store as it was."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.drift.findings import Finding
from fraud_assets.core.drift.histograms import Histogram
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.labels.completeness import Completeness, DelayCurve, MonthCompleteness
from fraud_assets.core.monitoring.pictures import CURVE_POINTS, Pictures, draw, stored_pictures

SHARES = st.floats(0, 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
HISTOGRAMS = st.integers(1, 5).flatmap(
    lambda bins: st.builds(
        Histogram, WORDS, *(st.tuples(*[one] * bins) for one in (WORDS, SHARES, SHARES)), SHARES, SHARES
    )
)
NUMBERS = st.none() | st.floats()
MONTHS = st.builds(
    MonthCompleteness,
    st.just("2025-04"),
    st.datetimes(dt.datetime(2025, 1, 1), dt.datetime(2026, 1, 1), timezones=st.just(dt.UTC)),
    *[st.integers(0, 10**9)] * 3,
    *[NUMBERS] * 6,
)
CURVES = st.lists(st.floats(0, 400), max_size=400, unique=True).map(
    lambda days: DelayCurve(np.sort(np.array(days)), np.arange(1, len(days) + 1) / max(len(days), 1))
)
AS_OF = dt.datetime(2025, 5, 1, tzinfo=dt.UTC)
COMPLETE = st.builds(Completeness, st.just(AS_OF), st.lists(MONTHS, max_size=3).map(tuple), CURVES, CURVES)
PICTURES = st.builds(
    Pictures, st.lists(HISTOGRAMS, max_size=3).map(tuple), st.none() | st.tuples(SHARES, SHARES), st.none() | COMPLETE
)


@given(pictures=PICTURES)
def test_what_is_stored_comes_back_and_is_written_the_same_again(pictures: Pictures) -> None:
    text = pictures.to_json()
    back = Pictures.from_json(text)
    assert back.to_json() == text
    assert [one.labels for one in back.histograms] == [one.labels for one in pictures.histograms]
    assert (back.completeness is None) == (pictures.completeness is None)
    for one, other in zip(pictures.histograms, back.histograms, strict=True):
        assert other.current == pytest.approx(one.current, rel=1e-7)
    # What is not finite is not known, and JSON has no word for it.
    assert "NaN" not in text
    assert "Infinity" not in text
    if pictures.completeness and back.completeness:
        for before, after in zip(pictures.completeness.months, back.completeness.months, strict=True):
            known = before.still_to_come is not None and math.isfinite(before.still_to_come)
            assert (after.still_to_come is not None) == known
            assert (after.month, after.settled_at, after.n) == (before.month, before.settled_at, before.n)


@given(curve=CURVES)
def test_a_delay_curve_keeps_its_ends_its_half_and_as_many_points_as_can_be_seen(curve: DelayCurve) -> None:
    stored = Pictures(completeness=Completeness(AS_OF, (), curve, curve))
    back = Pictures.from_json(stored.to_json()).completeness
    assert back is not None
    assert len(back.curve.days) <= CURVE_POINTS + 1
    if len(curve.days):
        assert (back.curve.days[0], back.curve.days[-1]) == pytest.approx((curve.days[0], curve.days[-1]), rel=1e-7)
        half = curve.days[curve.share >= 0.5][0]
        assert back.curve.days[back.curve.share >= 0.5][0] == pytest.approx(half, rel=1e-7)


def test_a_month_from_before_pictures_were_kept_has_none_and_one_with_nothing_to_draw_has_empty_ones() -> None:
    assert stored_pictures({"kind": "verdict"}) is None
    assert stored_pictures({"kind": "verdict", "pictures": None}) is None
    assert stored_pictures({"kind": "verdict", "pictures": Pictures().to_json()}) == Pictures()


# What is drawn


def moved(feature: str, kind: str = "covariate") -> Finding:
    return Finding(kind=kind, feature=feature, method="m", status="DRIFT", reason="r", psi=0.2)  # type: ignore[arg-type]


def window(first: str, days: int, a_day: int = 10, **columns: list[object]) -> pa.Table:
    begin = dt.datetime.fromisoformat(first).replace(tzinfo=dt.UTC)
    moments = [begin + dt.timedelta(days=n // a_day) for n in range(days * a_day)]
    return pa.table({"event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")), **columns})


def test_the_share_above_the_threshold_is_that_of_the_rows_that_were_scored() -> None:
    before = window("2025-03-03", 7, score=[0.9, None, 0.1, None, 0.1, None, 0.1, None, 0.1, None] * 7)
    now = window("2025-04-07", 7, score=[0.9, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1] * 7)
    every_second = DriftConfig(reference_rows=35)
    found = draw([moved("score", "prediction")], before, now, 0.5, every_second)
    assert found.flagged == pytest.approx((0.2, 0.2))
    (score,) = found.histograms
    # Of the reference one row in two was looked at: the others are not missing values.
    assert (score.feature, score.missing_reference) == ("score", 0.0)


def test_scores_that_were_not_compared_are_not_drawn() -> None:
    sides = [window(first, 7, score=[0.5] * 70, amount=[float(n % 7) for n in range(70)]) for first in
             ("2025-03-03", "2025-04-07")]  # fmt: skip
    found = draw([moved("amount")], sides[0], sides[1], 0.5, DriftConfig())
    assert [one.feature for one in found.histograms] == ["amount"]
    assert found.flagged is None


VALUES = {
    "numbers": st.none() | st.floats(allow_nan=True, allow_infinity=False, width=32),
    "texts": st.none() | WORDS,
    "yes or no": st.none() | st.booleans(),
    "whole": st.none() | st.integers(-(2**40), 2**40),
    "nothing": st.none(),
}
TYPES = {
    "numbers": pa.float32(), "texts": pa.string(), "yes or no": pa.bool_(), "whole": pa.int64(), "nothing": pa.null()
}  # fmt: skip


@given(
    data=st.data(), kinds=st.tuples(*[st.sampled_from(sorted(VALUES))] * 2), days=st.tuples(*[st.integers(0, 8)] * 2)
)
def test_any_column_can_be_drawn_or_is_left_out(
    data: st.DataObject, kinds: tuple[str, str], days: tuple[int, int]
) -> None:
    sides = []
    for kind, length, first in zip(kinds, days, ("2025-03-03", "2025-04-07"), strict=True):
        values = data.draw(st.lists(VALUES[kind], min_size=length * 2, max_size=length * 2))
        sides.append(window(first, length, 2, x=pa.array(values, TYPES[kind])))
    found = draw([moved("x")], sides[0], sides[1], None, DriftConfig())
    json.loads(found.to_json())
    for one in found.histograms:
        assert sum(one.reference) == pytest.approx(1.0)
        assert sum(one.current) == pytest.approx(1.0) or one.missing_current == pytest.approx(1.0)
