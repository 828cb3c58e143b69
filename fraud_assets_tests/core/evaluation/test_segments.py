"""Parts of a window: which rows are in which, and how a model does on each."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score

from fraud_assets.core.evaluation.segments import (
    Segment,
    SegmentMetrics,
    judge_segments,
    segment_attributes,
    segments_of,
)
from fraud_assets.core.statistics.bootstrap import Interval, MetricsError, with_rare_errors

FRIDAY = dt.datetime(2018, 6, 1, tzinfo=dt.UTC)


def window(n: int = 4, **columns: Any) -> pa.Table:
    """Rows at noon of a Friday and the days after it, and further columns."""
    moments = [FRIDAY + dt.timedelta(days=i, hours=12) for i in range(n)]
    return pa.table({"event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")), **columns})


def parts(segments: list[Segment]) -> dict[str, list[str]]:
    """Of each segment, the part that each row is in."""
    return {one.name: [one.values[code] for code in one.codes] for one in segments}


class TestWhichRowsAreInWhichPart:
    def test_weekends_are_those_of_the_contract_s_time_zone(self) -> None:
        late = pa.table(
            {"event_timestamp": pa.array([FRIDAY + dt.timedelta(hours=h) for h in (12, 23)], pa.timestamp("us", "UTC"))}
        )
        assert parts(segments_of(late, timezone="Europe/Paris")) == {"day": ["weekday", "weekend"]}
        assert segments_of(late, timezone="UTC") == []

    def test_bands_of_amounts_hold_about_as_many_rows_each_and_say_their_range(self) -> None:
        amount = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, np.nan])
        found = segments_of(window(11, amount=amount), timezone="UTC")[0]
        assert [found.values[code] for code in found.codes] == [
            *(f"band {1 + i // 2}" for i in range(10)), "(missing)",
        ]  # fmt: skip
        assert found.ranges[:2] == ("1.00 to 2.00", "3.00 to 4.00")
        assert found.ranges[-1] is None

    def test_equal_amounts_are_in_one_band_however_many_they_are(self) -> None:
        found = segments_of(window(10, amount=np.array([5.0] * 9 + [7.0])), timezone="UTC")[0]
        assert found.ranges == ("5.00 to 5.00", "7.00 to 7.00")
        assert np.bincount(found.codes).tolist() == [9, 1]

    @pytest.mark.parametrize("amount", [np.full(4, 5.0), np.full(4, np.nan)])
    def test_amounts_that_are_all_the_same_or_all_missing_part_nothing(self, amount: Any) -> None:
        assert set(parts(segments_of(window(amount=amount), timezone="UTC"))) == {"day"}

    def test_an_entity_from_before_the_window_is_known_and_any_other_is_new_in_all_its_rows(self) -> None:
        rows = window(5, customer_id=pa.array([1, 2, 2, None, 9], pa.int64()))
        found = segments_of(rows, timezone="UTC", seen={"customer_id": pa.array([1, 7, 1])})
        assert parts(found)["customer_id"] == ["known", "new", "new", "(missing)", "new"]

    def test_rare_values_of_an_attribute_are_taken_together_and_missing_ones_are_a_part(self) -> None:
        channel = ["web"] * 150 + [None] * 48 + ["fax", "telex"]
        found = segments_of(window(200), timezone="UTC", attributes=pa.table({"channel": channel}))[0]
        assert found.values == ("(missing)", "web", "(other)")
        assert np.bincount(found.codes).tolist() == [48, 150, 2]

    def test_a_value_that_one_row_in_a_hundred_has_is_a_part_of_its_own(self) -> None:
        channel = ["web"] * 197 + ["fax", "fax", "telex"]
        found = segments_of(window(200), timezone="UTC", attributes=pa.table({"channel": channel}))[0]
        assert found.values == ("fax", "web", "(other)")

    def test_a_value_that_is_called_other_is_no_second_part_of_that_name(self) -> None:
        channel = ["web"] * 150 + ["(other)"] * 49 + ["fax"]
        found = segments_of(window(200), timezone="UTC", attributes=pa.table({"channel": channel}))[0]
        assert found.values == ("(other)", "web")
        assert np.bincount(found.codes).tolist() == [50, 150]

    def test_free_text_parts_nothing(self) -> None:
        text = pa.table({"note": [f"note {i}" for i in range(200)]})
        assert "note" not in parts(segments_of(window(200), timezone="UTC", attributes=text))

    def test_yes_and_no_are_parts(self) -> None:
        found = segments_of(window(), timezone="UTC", attributes=pa.table({"online": [True, False, None, True]}))
        assert parts(found)["online"] == ["true", "false", "(missing)", "true"]

    def test_a_contract_s_text_is_parted_and_its_numbers_are_not(
        self, simulator_contract: Any, handbook_contract: Any
    ) -> None:
        assert segment_attributes(simulator_contract) == ("merchant_segment",)
        assert segment_attributes(handbook_contract) == ()


def two_parts(n: int = 400, seed: int = 0) -> tuple[Any, Any, Any, Segment]:
    """Labels, scores of which those of part a tell nothing, cards of four rows, and the parts."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 2
    y = rng.random(n) < 0.25
    score = 1 / (1 + np.exp(-(rng.normal(size=n) + 3 * y * codes)))
    return y, score, np.arange(n) // 4, Segment("half", ("a", "b"), codes, (None, "0 to 1"))


def judge(y: Any, score: Any, segment: Segment, **changes: Any) -> dict[str, SegmentMetrics]:
    base: dict[str, Any] = {"cards": None, "threshold": 0.5, "minimum_frauds": 1}
    return {part.value: part for part in judge_segments(y, score, [segment], **(base | changes))}


class TestHowAModelDoes:
    def test_a_part_is_as_worked_out_by_hand(self) -> None:
        # a: .9 fraud, .6 genuine, .2 fraud; b: .8 genuine, .7 fraud.
        y = np.array([True, False, True, False, True])
        score = np.array([0.9, 0.6, 0.2, 0.8, 0.7])
        found = judge(y, score, Segment("half", ("a", "b"), np.array([0, 0, 0, 1, 1]), (None, None)))
        a, b = found["a"], found["b"]
        assert (a.n, a.n_fraud, a.n_flagged, a.reason) == (3, 2, 2, None)
        assert a.prevalence == 2 / 3
        assert a.average_precision.value == pytest.approx((1 + 2 / 3) / 2)
        assert (a.precision_at_threshold, a.recall_at_threshold) == (0.5, 0.5)
        assert a.expected_over_observed == pytest.approx(1.7 / 2)
        assert b.average_precision.value == 0.5

    def test_the_blind_part_is_seen_beside_the_other(self) -> None:
        y, score, cards, half = two_parts()
        found = judge(y, score, half, cards=cards)
        assert found["a"].average_precision.high < found["b"].average_precision.low

    def test_each_draw_is_one_of_cards_of_the_whole_window(self) -> None:
        y, score, cards, half = two_parts()
        found = judge(y, score, half, cards=cards, replicates=25, seed=4)["b"].average_precision
        mine, rng, drawn = half.codes == 1, np.random.default_rng(4), []
        for _ in range(25):
            counts = np.bincount(rng.integers(0, 100, 100), minlength=100)[cards]
            drawn.append(average_precision_score(y[mine], score[mine], sample_weight=counts[mine]))
        ends = np.quantile(drawn, [0.0239, 1 - 0.0239])
        expected = with_rare_errors(Interval(found.value, *map(float, ends)), int(y[mine].sum()), 0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.003)

    def test_too_few_frauds_give_no_average_precision_and_the_reason(self) -> None:
        y = np.array([True, False, True, False, False])
        parts_of = Segment("half", ("a", "b"), np.array([0, 0, 0, 1, 1]), (None, None))
        found = judge(y, np.full(5, 0.5), parts_of, minimum_frauds=2)
        assert found["a"].average_precision.value == pytest.approx(2 / 3)
        assert math.isnan(found["b"].average_precision.value)
        assert found["b"].reason == "0 frauds, fewer than 2"
        row = found["b"].as_row()
        assert (row["average_precision"], row["recall_at_threshold"], row["n_flagged"]) == (None, None, 2)

    def test_a_part_without_a_genuine_row_gives_the_reason(self) -> None:
        parts_of = Segment("half", ("a", "b"), np.array([0, 0, 1, 1]), (None, None))
        found = judge([True, True, True, False], [0.1, 0.2, 0.3, 0.4], parts_of)
        assert found["a"].reason == "no genuine transaction"
        assert found["b"].reason is None

    def test_a_part_of_one_card_has_a_value_without_bounds(self) -> None:
        y, score, cards, half = two_parts(40)
        found = judge(y, score, half, cards=np.where(half.codes == 0, 0, cards))["a"].average_precision
        assert math.isfinite(found.value)
        assert not found.is_known

    def test_scores_that_are_no_probabilities_expect_nothing(self) -> None:
        y, score, _, half = two_parts(40)
        assert math.isnan(judge(y, score * 10, half)["a"].expected_over_observed)

    def test_a_window_of_one_fraud_is_told_apart_without_an_error(self) -> None:
        _, score, _, half = two_parts(40)
        found = judge(np.arange(40) == 3, score, half, minimum_frauds=30)
        assert [part.n_fraud for part in found.values()] == [0, 1]
        assert {part.reason for part in found.values()} == {"0 frauds, fewer than 30", "1 frauds, fewer than 30"}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [({"score": [np.nan, 0.1]}, "1 of 2 scores are NaN"), ({"codes": np.zeros(3, int)}, "half has shape")],
    )
    def test_what_cannot_be_judged_is_said(self, changes: dict[str, Any], message: str) -> None:
        segment = Segment("half", ("a",), changes.get("codes", np.zeros(2, int)), (None,))
        with pytest.raises(MetricsError, match=message):
            judge([True, False], changes.get("score", [0.2, 0.1]), segment)
