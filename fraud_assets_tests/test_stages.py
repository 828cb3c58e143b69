"""What the service notes of a request: its stages, and which features are missing; counted in a thread."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from bentos.fraud_scorer.measures.stages import MOST, MOST_ROWS, Clock, Stages, missing_of

VALUES = st.none() | st.floats() | st.text(max_size=2)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@given(st.lists(st.tuples(st.none() | st.floats(), st.none() | st.text(max_size=2)), min_size=1, max_size=20))
def test_a_table_and_its_rows_miss_the_same_values(rows: list[tuple[float | None, str | None]]) -> None:
    named = [{"a": number, "b": text, "transaction_id": 1} for number, text in rows]
    schema = pa.schema([("a", pa.float64()), ("b", pa.string()), ("transaction_id", pa.int64())])
    expected = {
        "a": sum(number is None or math.isnan(number) for number, _ in rows),
        "b": sum(text is None for _, text in rows),
    }
    assert missing_of(named, ["a", "b"]) == expected
    assert missing_of(pa.Table.from_pylist(named, schema=schema), ["a", "b"]) == expected


@pytest.mark.parametrize("n", [1, MOST_ROWS, MOST_ROWS + 1, 3 * MOST_ROWS])
@pytest.mark.parametrize("as_table", [True, False])
def test_of_a_large_request_some_rows_are_looked_at(n: int, as_table: bool) -> None:
    rows = [{"x": None if number % 2 else 1.0} for number in range(n)]
    before = counted("fraud_scorer_feature_rows_total"), counted("fraud_scorer_feature_missing_total", feature="x")
    stages = Stages()
    stages.start()
    Clock(stages).end("write", pa.Table.from_pylist(rows) if as_table else rows, ["x"])
    stages.close()
    some = min(n, MOST_ROWS)
    assert counted("fraud_scorer_feature_rows_total") - before[0] == some
    assert counted("fraud_scorer_feature_missing_total", feature="x") - before[1] == some // 2


def test_stages_follow_each_other_without_a_gap_and_the_newest_requests_stay() -> None:
    stages, before = Stages(), counted("fraud_scorer_stage_seconds_count", stage="write")
    for _ in range(MOST + 50):
        clock = Clock(stages)
        clock.lap("read")
        clock.lap("score")
        clock.end("write", [{"x": 1.0}], ["x"])
        assert [stage for stage, _ in clock.laps] == ["read", "score", "write"]
        assert all(seconds >= 0 for _, seconds in clock.laps)
    stages.start()
    stages.close()
    assert counted("fraud_scorer_stage_seconds_count", stage="write") - before == MOST


def test_what_came_to_nothing_is_time_that_was_waited() -> None:
    clock = Clock(Stages())
    clock.lap("read")
    ((_, tried),) = clock.laps
    clock.again()
    clock.lap("wait")
    ((stage, waited),) = clock.laps
    assert (stage, waited > tried) == ("wait", True)


def test_a_request_that_cannot_be_counted_does_not_end_the_counting(caplog: pytest.LogCaptureFixture) -> None:
    stages = Stages()
    stages.start()
    Clock(stages).end("write", [{"other": 1.0}], ["x"])
    stages.close()
    assert "requests cannot be counted" in caplog.text
    assert "other" not in caplog.text
