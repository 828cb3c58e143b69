"""Columns that tell the label, told from columns that are only good at it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fraud_assets.core.drafting.leaks import telling

N = 1000
IS_FRAUD = np.array([float(number % 20 == 0) for number in range(N)])
DRAW = np.random.default_rng(3)


def texts(values: list[object]) -> pd.Series:
    return pd.Series([str(value) for value in values], dtype=object)


@pytest.mark.parametrize(
    ("values", "because"),
    [
        ([f"2024-02-{n % 28 + 1}" if IS_FRAUD[n] else "" for n in range(N)], "has a value on frauds alone"),
        (["" if IS_FRAUD[n] else n % 30 for n in range(N)], "has no value on frauds, and one on all others"),
        ([n % 3 + 1 if IS_FRAUD[n] else 0 for n in range(N)], "is '0' on nearly every genuine row"),
        (["closed" if IS_FRAUD[n] else f"open {n % 9}" for n in range(N)], "is 'closed' on nearly every fraud"),
        (
            [f"{'ab'[n // 20 % 2]}" if IS_FRAUD[n] else f"{'cdefg'[n % 5]}" for n in range(N)],
            "has values that are each on frauds or on genuine rows alone",
        ),
    ],
)
def test_a_column_that_was_filled_in_afterwards_is_known_by_how_it_is_filled(
    values: list[object], because: str
) -> None:
    assert because in telling(texts(values), None, IS_FRAUD).because


def test_a_strong_feature_is_no_leak_and_its_strength_is_told() -> None:
    numbers = DRAW.normal(4 * IS_FRAUD, 1)
    found = telling(texts(list(numbers)), numbers, IS_FRAUD)
    assert found.because == ""
    assert found.auc is not None
    assert found.auc > 0.98


def test_a_column_that_says_nothing_has_an_auc_near_a_half() -> None:
    numbers = DRAW.normal(0, 1, N)
    found = telling(texts(list(numbers)), numbers, IS_FRAUD)
    assert found.because == ""
    assert found.auc == pytest.approx(0.5, abs=0.1)


def test_of_a_few_frauds_nothing_is_concluded() -> None:
    few = np.array([float(number < 5) for number in range(N)])
    assert telling(texts(["x" if n < 5 else "" for n in range(N)]), None, few).because == ""
