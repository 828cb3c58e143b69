"""Why a column is not used: said alike by the check of a contract and by the training after it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.intake.preview import _Use
from fraud_assets.core.models.encoding import EncodingConfig, _counts, _useless
from fraud_assets.core.models.training import _idle

N = 200
OWN = "has a value of its own in 100.0 % of the rows, as ids and names do, and so says nothing about the next row"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([None] * N, "has no value in any row"),
        (["web"] * N, "has the same value in every row, web"),
        (["web", None] * (N // 2), None),
        ([f"name {row}" for row in range(N)], OWN),
        # 10 rows of 200 are 5 %.
        ([f"name {max(row, 9)}" for row in range(N)], None),
        ([f"name {max(row, 8)}" for row in range(N)], OWN.replace("100.0 %", "95.5 %")),
        (["a", "b"] * (N // 2), None),
    ],
)
def test_a_check_and_a_training_say_the_same_of_a_text(values: list[str | None], why: str | None) -> None:
    text = pa.array(values, pa.string())
    use = _Use()
    for start in range(0, N, 50):
        use.add(text.slice(start, 50))
    assert _useless(text, _counts(text), EncodingConfig()) == why
    assert use.why_not("string", is_entity=False) == (f"it {why}" if why else "")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([None] * N, "has no value in any row"),
        ([2.5] * N, "has the same value in every row, 2.5"),
        ([2.5, None] * (N // 2), None),
        (list(range(N)), None),
    ],
)
def test_a_check_and_a_training_say_the_same_of_a_number(values: list[float | None], why: str | None) -> None:
    number = pa.array(values, pa.float64())
    use = _Use()
    use.add(number)
    X = np.array([[np.nan if value is None else value] for value in values], np.float32)
    assert _idle(X, ("v",)) == ({"v": why} if why else {})
    assert use.why_not("number", is_entity=False) == (f"it {why}" if why else "")


def test_an_entity_with_one_value_has_a_history() -> None:
    use = _Use()
    use.add(pa.array(["c1"] * N))
    assert use.why_not("string", is_entity=True) == ""


def test_few_rows_do_not_say_that_no_value_comes_again() -> None:
    use = _Use()
    use.add(pa.array([f"name {row}" for row in range(20)]))
    assert use.why_not("string", is_entity=False) == ""
